"""Working out constants: what exporters put between a stored weight and the node that multiplies by it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from models.compression.base import Array, CompressionError
from models.compression.bodies import graphs, inner_graphs, places

_FOLDED: Final = ("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
SMALLEST_TABLE: Final = 4096  # values; below that the nodes cost more than they save


def values(tensor: TensorProto) -> Array:
    """The array of an initialiser.

    Raises:
        CompressionError: its bytes do not fit its shape.
    """
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # The library raises ValueError, TypeError and its own, by the kind of damage.
        raise CompressionError(f"initialiser {tensor.name!r} cannot be read: {error}") from error


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def fold(graph: GraphProto) -> frozenset[str]:
    """Make constants behind Cast, Transpose and the like initialisers, and Constants too, in place.

    Names are those that `bodies.flatten_names` leaves.

    Returns:
        Names of the initialisers that came from fp16.
    """
    return _Folder(graph).fold()


def turn_tables(graph: GraphProto) -> None:
    """Store tables that are looked up row by row as the matrices [Q, R] that they are when multiplied by, in place.

    A table of R rows of Q values may be shared by a Gather, which takes rows, and by a MatMul behind a Transpose: token
    embeddings and the output layer often are. Turned round, the Gather takes columns.
    """
    uses: dict[str, list[NodeProto]] = {}
    for place in places(graph):
        for name in place.node.input:
            uses.setdefault(name, []).append(place.node)
    ends = {value.name for each in graphs(graph) for value in each.output}
    renamed: dict[str, str] = {}
    instead: dict[str, list[NodeProto]] = {}
    for tensor in list(graph.initializer):
        readers = uses.get(tensor.name, [])
        size = int(np.prod(tensor.dims, dtype=object))
        fits = len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT and size >= SMALLEST_TABLE
        looked_up = [reader for reader in readers if _takes_rows(reader, tensor.name)]
        turned = [reader for reader in readers if _turns(reader) and reader.output[0] not in ends]
        if not fits or not looked_up or len(looked_up) + len(turned) != len(readers) or tensor.name in ends:
            continue
        width = int(tensor.dims[1])
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values(tensor).T), tensor.name))
        renamed |= {reader.output[0]: tensor.name for reader in turned}
        instead |= {reader.output[0]: [] for reader in turned}
        instead |= {reader.output[0]: _columns(graph, reader, width) for reader in looked_up}
    if instead:
        for each in graphs(graph):
            nodes: list[NodeProto] = []
            for node in each.node:
                for index, name in enumerate(node.input):
                    node.input[index] = renamed.get(name, name)
                nodes += instead.get(node.output[0], [node]) if node.output else [node]
            del each.node[:]
            each.node.extend(nodes)


def _takes_rows(node: NodeProto, table: str) -> bool:
    return node.op_type == "Gather" and node.input[0] == table and attributes(node).get("axis", 0) == 0


def _turns(node: NodeProto) -> bool:
    return node.op_type == "Transpose" and list(attributes(node).get("perm", [1, 0])) == [1, 0]


def _columns(root: GraphProto, node: NodeProto, width: int) -> list[NodeProto]:
    """What gives the rows that `node` looked up, from the table turned round; the indices may have any shape."""
    y = node.output[0]
    flat, size = f"{y}.flat", f"{y}.width"
    known = {tensor.name for tensor in root.initializer}
    for name, content in ((flat, [-1]), (size, [width])):
        if name not in known:
            root.initializer.append(numpy_helper.from_array(np.array(content, np.int64), name))
    return [
        helper.make_node("Reshape", [node.input[1], flat], [f"{y}.indices"]),
        helper.make_node("Gather", [node.input[0], f"{y}.indices"], [f"{y}.columns"], name=node.name, axis=1),
        helper.make_node("Transpose", [f"{y}.columns"], [f"{y}.rows"], perm=[1, 0]),
        helper.make_node("Shape", [node.input[1]], [f"{y}.lookups"]),
        helper.make_node("Concat", [f"{y}.lookups", size], [f"{y}.shape"], axis=0),
        helper.make_node("Reshape", [f"{y}.rows", f"{y}.shape"], [y]),
    ]


class _Folder:
    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._stored = {initializer.name: initializer for initializer in graph.initializer}
        self._outputs = {value.name for each in graphs(graph) for value in each.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for place in places(graph):
            for name in place.node.input:
                self._readers.setdefault(name, []).append(place.node)
        self._renamed: dict[str, str] = {}
        self._half: set[str] = set()

    def fold(self) -> frozenset[str]:
        self._walk(self._graph)
        used = {name for place in places(self._graph) for name in place.node.input} | self._outputs
        del self._graph.initializer[:]
        self._graph.initializer.extend(tensor for name, tensor in self._stored.items() if name in used)
        return frozenset(name for name in self._half if name in used)

    def _walk(self, graph: GraphProto) -> None:
        kept = []
        for node in graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = self._renamed.get(name, name)
            if not self._hoisted(node) and not self._folded(node):
                kept.append(node)
                for inner in inner_graphs(node):
                    self._walk(inner)
        del graph.node[:]
        graph.node.extend(kept)

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
        if node.output and all(name in self._renamed for name in node.output):
            return True
        if not self._constant(node):
            return False
        source = node.input[0]
        readers = self._readers.get(source, [])
        alike = [reader for reader in readers if self._form(reader) == self._form(node)]
        if any(reader.output[0] in self._outputs for reader in alike):
            return False
        if node.op_type == "Identity":
            name = source
        else:
            alone = len(alike) == len(readers) and source not in self._outputs
            # Beside the first, a second copy in another layout would make the model larger, not smaller.
            result = _evaluate(node, self._stored) if alone or node.op_type == "Cast" else None
            if result is None:
                return False
            name = source if alone and not source.endswith(".fp16") else node.output[0]
            if self._stored[source].data_type == TensorProto.FLOAT16 or source in self._half:
                self._half.add(name)
            self._stored[name] = numpy_helper.from_array(np.ascontiguousarray(result), name)
            self._readers[name] = []
        for reader in alike:
            self._renamed[reader.output[0]] = name
            self._readers[name] = [*self._readers.get(name, []), *self._readers.get(reader.output[0], [])]
        return True

    def _form(self, node: NodeProto) -> tuple[object, ...]:
        # Exporters write the same axes down again for every node.
        given = tuple(values(self._stored[name]).tobytes() if name in self._stored else name for name in node.input[1:])
        return node.op_type, given, tuple(sorted(each.SerializeToString() for each in node.attribute))

    def _constant(self, node: NodeProto) -> bool:
        if node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx"):
            return False
        known = all(not name or name in self._stored for name in node.input)
        return known and self._stored[node.input[0]].data_type in _FLOATS


def _evaluate(node: NodeProto, stored: dict[str, TensorProto]) -> Array | None:
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
