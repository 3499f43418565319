"""One form for the many ways in which exporters write a network, so that every weight is a plain fp32 initialiser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import onnx

from models.compression.base import CompressionError
from models.compression.bodies import flatten_names, graphs, inner_graphs, places, reads
from models.compression.dequantise import dequantise
from models.compression.directions import RECURRENT, unroll_directions
from models.compression.folding import fold, turn_tables
from models.compression.pieces import put_together

OLDEST_OPSET: Final = 13
_OPSET: Final = 17


@dataclass(frozen=True, slots=True)
class Normalised:
    """A network whose constants are initialisers of its outermost graph.

    Attributes:
        model: the network.
        half: initialisers that the checkpoint stores as fp16 and casts; here they are fp32.
        quantised: bytes in the checkpoint of initialisers that it stores as integers with scales; here they are fp32.
    """

    model: onnx.ModelProto
    half: frozenset[str]
    quantised: Mapping[str, int] = field(default_factory=dict)


def normalise(model: onnx.ModelProto) -> Normalised:
    """Functions put in place, operators of at least opset 13, constants behind Cast, Transpose and the like folded, and
    integer-quantised and backward layers with constant weights as those that they stand for; weights in the bodies of
    If, Loop and Scan hoisted to the outermost graph.

    Raises:
        CompressionError: the operators cannot be brought up to opset 13.
    """
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    else:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        model = copy
    model = _upgraded(model)
    graph = model.graph
    stored = {initializer.name for initializer in graph.initializer}
    # Before IR version 4 every initialiser was an input too, which would let callers replace it.
    inputs = [value for value in graph.input if value.name not in stored]
    del graph.input[:]
    graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    flatten_names(graph)
    for place in places(graph):
        if place.node.op_type in RECURRENT and not place.node.output[0]:
            # All states, which calibration looks at, even where the network reads the last one only.
            place.node.output[0] = f"{next(name for name in place.node.output if name)}.states"
    half = fold(graph)
    if put_together(graph):
        drop_unused(graph)
        half |= fold(graph)
    quantised = dequantise(graph)
    for each in graphs(graph):
        parts = unroll_directions(graph, each)
        quantised |= {part: quantised[name] // 2 for part, name in parts.items() if name in quantised}
    if quantised:
        drop_unused(graph)
        half |= fold(graph)
        present = {tensor.name for tensor in graph.initializer}
        quantised = {name: size for name, size in quantised.items() if name in present}
    turn_tables(graph)
    return Normalised(model, half, quantised)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Take out nodes that nothing reads, in the bodies too; a body's own inputs and outputs stay."""
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output):
            for inner in inner_graphs(node):
                drop_unused(inner)
            kept.append(node)
            used |= reads(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def opset(model: onnx.ModelProto, domain: str = "") -> int:
    """Version of the operators of a domain that the model imports, 0 for none."""
    names = {domain, "ai.onnx"} if domain == "" else {domain}
    return max((entry.version for entry in model.opset_import if entry.domain in names), default=0)


def consumers(graph: onnx.GraphProto) -> Counter[str]:
    """How often each value is read: by nodes, by nodes of inner graphs, and as an output."""
    counts: Counter[str] = Counter(value.name for value in graph.output)
    for node in graph.node:
        counts.update(name for name in node.input if name)
        for inner in inner_graphs(node):
            counts.update(consumers(inner))
    return counts


def _upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    if opset(model) >= OLDEST_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, _OPSET)
    except Exception as error:  # The converter raises RuntimeError and its own, by the operator.
        raise CompressionError(
            f"the network uses opset {opset(model)}, which cannot be converted to {_OPSET}: {error}"
        ) from error
