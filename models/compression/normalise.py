"""One form for the many ways in which exporters write a network, so that every weight is a plain fp32 initialiser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.compression.base import Array, CompressionError
from models.compression.dequantise import dequantise
from models.compression.directions import RECURRENT, unroll_directions

OLDEST_OPSET: Final = 13
_OPSET: Final = 17
_FOLDED = ("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True, slots=True)
class Normalised:
    """A network whose constants are initialisers.

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
    integer-quantised and backward layers with constant weights as those that they stand for.

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
    stored = {initializer.name for initializer in model.graph.initializer}
    # Before IR version 4 every initialiser was an input too, which would let callers replace it.
    inputs = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 8)
    for node in model.graph.node:
        if node.op_type in RECURRENT and not node.output[0]:
            # All states, which calibration looks at, even where the network reads the last one only.
            node.output[0] = f"{next(name for name in node.output if name)}.states"
    half = _Folder(model.graph).fold()
    quantised = dequantise(model.graph)
    unroll_directions(model.graph)
    if quantised:
        _drop_unused(model.graph)
        half |= _Folder(model.graph).fold()
        present = {tensor.name for tensor in model.graph.initializer}
        quantised = {name: size for name, size in quantised.items() if name in present}
    return Normalised(model, half, quantised)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Take out nodes that nothing reads."""
    while True:
        uses = consumers(graph)
        kept = [node for node in graph.node if any(uses[name] for name in node.output)]
        if len(kept) == len(graph.node):
            return
        del graph.node[:]
        graph.node.extend(kept)


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


def inner_graphs(node: NodeProto) -> list[onnx.GraphProto]:
    """Bodies of If, Loop and Scan."""
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            found.extend(attribute.graphs)
    return found


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def values(tensor: onnx.TensorProto) -> Array:
    """The array of an initialiser.

    Raises:
        CompressionError: its bytes do not fit its shape.
    """
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # The library raises ValueError, TypeError and its own, by the kind of damage.
        raise CompressionError(f"initialiser {tensor.name!r} cannot be read: {error}") from error


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


class _Folder:
    """Works out constants of a graph, in place."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._stored = {initializer.name: initializer for initializer in graph.initializer}
        self._uses = consumers(graph)
        self._outputs = {value.name for value in graph.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._renamed: dict[str, str] = {}
        self._half: set[str] = set()

    def fold(self) -> frozenset[str]:
        """Names of the initialisers that came from fp16."""
        kept = []
        for node in self._graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = self._renamed.get(name, name)
            if not self._hoisted(node) and not self._folded(node):
                kept.append(node)
        del self._graph.node[:]
        self._graph.node.extend(kept)
        _bind_inner(self._graph, self._renamed)
        used = consumers(self._graph)
        del self._graph.initializer[:]
        self._graph.initializer.extend(tensor for name, tensor in self._stored.items() if used[name])
        return frozenset(name for name in self._half if used[name])

    def _hoisted(self, node: NodeProto) -> bool:
        if node.op_type != "Constant" or len(node.attribute) != 1 or node.attribute[0].name != "value":
            return False
        if node.output[0] in self._outputs:
            return False
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        self._stored[tensor.name] = tensor
        return True

    def _folded(self, node: NodeProto) -> bool:
        if any(name in self._renamed for name in node.output):
            return True
        if not self._constant(node):
            return False
        source = node.input[0]
        readers = self._readers.get(source, [])
        alike = [reader for reader in readers if _form(reader) == _form(node)]
        if any(reader.output[0] in self._outputs for reader in alike):
            return False
        if node.op_type == "Identity":
            name = source
        else:
            alone = len(alike) == len(readers) == self._uses[source]
            # Beside the first, a second copy in another layout would make the model larger, not smaller.
            result = _evaluate(node, self._stored) if alone or node.op_type == "Cast" else None
            if result is None:
                return False
            name = source if alone and not source.endswith(".fp16") else node.output[0]
            if self._stored[source].data_type == TensorProto.FLOAT16 or source in self._half:
                self._half.add(name)
            self._stored[name] = numpy_helper.from_array(np.ascontiguousarray(result), name)
            self._readers[name], self._uses[name] = [], 0
        for reader in alike:
            self._renamed[reader.output[0]] = name
            self._uses[name] += self._uses[reader.output[0]]
            self._readers[name] = [*self._readers.get(name, []), *self._readers.get(reader.output[0], [])]
        return True

    def _constant(self, node: NodeProto) -> bool:
        if node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx"):
            return False
        known = all(not name or name in self._stored for name in node.input)
        return known and self._stored[node.input[0]].data_type in _FLOATS


def _form(node: NodeProto) -> tuple[object, ...]:
    return node.op_type, tuple(node.input[1:]), tuple(sorted(each.SerializeToString() for each in node.attribute))


def _bind_inner(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    for node in graph.node:
        for inner in inner_graphs(node):
            for inside in inner.node:
                for index, name in enumerate(inside.input):
                    inside.input[index] = renamed.get(name, name)
            _bind_inner(inner, renamed)


def _evaluate(node: NodeProto, stored: Mapping[str, onnx.TensorProto]) -> Array | None:
    array = values(stored[node.input[0]])
    if node.op_type == "Cast":
        return array.astype(np.float32) if attributes(node).get("to") == TensorProto.FLOAT else None
    if node.op_type == "Identity":
        return array
    if node.op_type == "Transpose":
        return np.transpose(array, attributes(node).get("perm"))
    if len(node.input) != 2:
        return np.squeeze(array) if node.op_type == "Squeeze" else None
    argument = [int(value) for value in values(stored[node.input[1]]).reshape(-1)]
    if node.op_type == "Squeeze":
        return np.squeeze(array, tuple(argument))
    if node.op_type == "Unsqueeze":
        return np.expand_dims(array, tuple(argument))
    if 0 in argument:
        if attributes(node).get("allowzero"):
            return None
        argument = [array.shape[axis] if size == 0 else size for axis, size in enumerate(argument)]
    return array.reshape(argument)
