"""Packages of several networks as one network while they are compressed, and back.

The encoder and the decoder of a package become one graph, in which the decoder reads what the encoder gives: layers of
both are calibrated, chosen and compared together. Names get ``encoder/`` or ``decoder/`` in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx
from onnx import GraphProto, TensorProto

from models.compression.base import CompressionError
from models.compression.bodies import inner_graphs, reads
from models.compression.cutting import cut
from models.package import GRAPH_FILE, Manifest

HIDDEN: Final = "encoder_hidden_states"
"""What the decoder reads of the encoder."""

_ENCODER, _DECODER = "encoder/", "decoder/"


def join(manifest: Manifest, networks: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """The networks of a package, by file, as one.

    Raises:
        CompressionError: they do not fit each other.
    """
    if manifest.moonshine is None:
        return networks[GRAPH_FILE]
    encoder, decoder = (networks[name] for name in manifest.networks)
    versions = [{entry.domain: entry.version for entry in model.opset_import} for model in (encoder, decoder)]
    if any(versions[0][domain] != versions[1][domain] for domain in set(versions[0]) & set(versions[1])):
        raise CompressionError(f"encoder and decoder of {manifest.name} use different versions of the operators")
    if len(encoder.graph.output) != 1 or HIDDEN not in {value.name for value in decoder.graph.input}:
        raise CompressionError(f"the decoder of {manifest.name} does not take the one output of its encoder")
    joined = onnx.ModelProto(ir_version=max(encoder.ir_version, decoder.ir_version), producer_name="deepthin")
    for domain, version in (versions[0] | versions[1]).items():
        joined.opset_import.append(onnx.helper.make_opsetid(domain, version))
    graph = joined.graph
    graph.name = manifest.name
    parts: tuple[tuple[GraphProto, str, dict[str, str]], ...] = (
        (encoder.graph, _ENCODER, {encoder.graph.output[0].name: HIDDEN}),
        (decoder.graph, _DECODER, {}),
    )
    for part, prefix, renamed in parts:
        copy = GraphProto()
        copy.CopyFrom(part)
        fixed = {value.name: value.name for value in (*part.input, *part.output)} | renamed
        _prefix(copy, prefix, fixed)
        graph.node.extend(copy.node)
        graph.initializer.extend(copy.initializer)
        graph.input.extend(value for value in copy.input if value.name != HIDDEN)
        if prefix == _DECODER:
            graph.output.extend(copy.output)
    return joined


def split(manifest: Manifest, model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The networks of a package by file; the inverse of `join`, whatever was done to the layers."""
    if manifest.moonshine is None:
        return {GRAPH_FILE: model}
    hidden = onnx.helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["batch", "steps", "dim"])
    encoder = cut(model, [HIDDEN])
    decoder = cut(model, [value.name for value in model.graph.output], given={HIDDEN: TensorProto.FLOAT})
    for part, outputs in ((encoder, [hidden]), (decoder, model.graph.output)):
        needed = set().union(*(reads(node) for node in part.graph.node))
        inputs = [value for value in part.graph.input if value.name in needed and value.name != HIDDEN]
        if part is decoder:
            inputs.append(hidden)
        kept = list(outputs)
        del part.graph.input[:], part.graph.output[:]
        part.graph.input.extend(inputs)
        part.graph.output.extend(kept)
    return dict(zip(manifest.networks, (encoder, decoder), strict=True))


def _prefix(graph: GraphProto, prefix: str, fixed: Mapping[str, str]) -> None:
    def named(name: str) -> str:
        return fixed.get(name, prefix + name) if name else name

    del graph.value_info[:]
    for tensor in (*graph.initializer, *graph.input, *graph.output):
        tensor.name = named(tensor.name)
    for node in graph.node:
        node.name = named(node.name)
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = named(name)
        for inner in inner_graphs(node):
            # An output of a body may be called as one of the graph.
            own = {name for each in inner.node for name in each.output}
            _prefix(inner, prefix, {name: new for name, new in fixed.items() if name not in own})
