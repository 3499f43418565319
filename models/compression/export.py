"""A network with compressed weights as an ONNX model that runs on the compressed arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.compression.base import Array, Compressed, CompressionError, ConvMethod, TableMethod
from models.compression.bodies import graphs, inner_graphs, places, reads
from models.compression.builder import OnnxBuilder
from models.compression.directions import RECURRENT
from models.compression.folding import attributes, values
from models.compression.gru import export_gru
from models.compression.lstm import export_lstm
from models.compression.network import LOOKED_UP, Layer, Network
from models.compression.normalise import consumers
from models.compression.registry import METHODS, method
from models.compression.unfold import export_unfolded

_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}
_MATRIX_OPS = ("DeepThinMatMul", "CsrMatMul", "CodebookMatMul", "CodebookCsrMatMul", "HashedMatMul")
_DOMAIN_VERSIONS = {"deepthin": 1, "com.microsoft": 1}


def export(
    network: Network, compressed: Mapping[str, Compressed], *, half: frozenset[str] = frozenset()
) -> onnx.ModelProto:
    """The model with the weights named in `compressed` replaced; the others stay as they are.

    Args:
        network: the normalised network, with the biases that it shall have.
        compressed: compressed weights by the name of their layer.
        half: initialisers to store as fp16, behind a Cast, where they are still there afterwards.

    Raises:
        CompressionError: the graph that came out is not valid ONNX.
    """
    exporter = _Exporter(network, compressed)
    exporter.replace()
    model = exporter.model(half)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise CompressionError(f"the exported graph is not valid: {error}") from error
    return model


def bias_of(network: Network, layer: Layer, node: NodeProto) -> str | None:
    """The initialiser that is added to the output of `node`, one of those of `layer`; None where there is none."""
    stored = {tensor.name: tensor for tensor in network.model.graph.initializer}
    uses = consumers(network.model.graph)
    if node.op_type == LOOKED_UP:
        return None
    if node.op_type == "MatMul":
        holder = next(each for each in graphs(network.model.graph) if any(other is node for other in each.node))
        add = _added(holder, node, stored, uses, layer.R)
        return None if add is None else add[1]
    place = {"Gemm": 2, "Conv": 2, "GRU": 3, "LSTM": 3}[node.op_type]
    name = node.input[place] if place < len(node.input) else ""
    return name if name in stored else None


def _added(
    graph: onnx.GraphProto, node: NodeProto, stored: Mapping[str, TensorProto], uses: Mapping[str, int], R: int
) -> tuple[NodeProto, str] | None:
    """The Add behind a MatMul and its constant of R values, if that is what follows."""
    if uses[node.output[0]] != 1:
        return None
    for add in graph.node:
        if add.op_type == "Add" and node.output[0] in add.input:
            (other,) = [name for name in add.input if name != node.output[0]] or [""]
            tensor = stored.get(other)
            if tensor is None or tensor.data_type != TensorProto.FLOAT:
                return None
            shape = [size for size in tensor.dims if size != 1]
            # A longer shape would add axes to the output.
            fits = shape == [R] and tensor.dims[-1] == R and len(tensor.dims) <= 2
            return (add, other) if fits or (R == 1 and not shape and len(tensor.dims) <= 1) else None
    return None


class _Exporter:
    def __init__(self, network: Network, compressed: Mapping[str, Compressed]) -> None:
        self._network = network
        self._graph = network.model.graph
        self._compressed = compressed
        self._stored = {tensor.name: tensor for tensor in self._graph.initializer}
        self._uses = consumers(self._graph)
        self._layers = {layer.name: layer for layer in network.layers}
        taken = set(self._stored) | {value.name for value in (*self._graph.input, *self._graph.output)}
        for place in places(self._graph):
            taken |= {*place.node.output, *place.node.input, place.node.name}
        self._root = OnnxBuilder(taken)
        self._sites = {index: layer for layer in network.layers for index in (*layer.nodes, *layer.lookups)}
        # The nodes of the graph that is worked on, the outermost or a body.
        self._builder = self._root

    def replace(self) -> None:
        numbers = iter(range(len(places(self._graph))))
        self._replace(self._graph, numbers)

    def _replace(self, graph: onnx.GraphProto, numbers: Iterator[int]) -> None:
        gone: set[str] = set()
        for node in graph.node:
            layer = self._sites.get(next(numbers))
            if node.output and node.output[0] in gone:
                continue
            if layer is None or not self._replaced(node):
                self._builder.copy(self._with_bodies(node, numbers))
            elif node.op_type == LOOKED_UP:
                self._lookup(node, layer)
            elif layer.op in RECURRENT:
                self._recurrent(node)
            elif layer.op == "Conv":
                self._conv(node, layer)
            elif layer.op == "Gemm":
                self._gemm(node, layer)
            else:
                self._matmul(graph, node, layer, gone)

    def _with_bodies(self, node: NodeProto, numbers: Iterator[int]) -> NodeProto:
        """The node, with the layers in its bodies replaced."""
        originals = inner_graphs(node)
        if not originals:
            return node
        copy = NodeProto()
        copy.CopyFrom(node)
        outer = self._builder
        for original, body in zip(originals, inner_graphs(copy), strict=True):
            self._builder = self._root.body()
            self._replace(original, numbers)
            del body.node[:]
            body.node.extend(_fused(self._builder.nodes, {value.name for value in body.output}))
        self._builder = outer
        return copy

    def model(self, half: frozenset[str]) -> onnx.ModelProto:
        builder = self._root
        nodes = _fused(builder.nodes, {value.name for value in self._graph.output})
        needed = {value.name for value in self._graph.output}.union(*(reads(node) for node in nodes))
        kept = [tensor for tensor in self._graph.initializer if tensor.name in needed]
        initializers, casts = [], []
        for tensor in kept:
            if tensor.name not in half:
                initializers.append(tensor)
                continue
            array = values(tensor).astype(np.float16)
            initializers.append(numpy_helper.from_array(array, f"{tensor.name}.fp16"))
            casts.append(helper.make_node("Cast", [f"{tensor.name}.fp16"], [tensor.name], to=TensorProto.FLOAT))
        old = self._network.model
        graph = helper.make_graph(
            [*casts, *nodes],
            self._graph.name or "network",
            list(self._graph.input),
            list(self._graph.output),
            [*initializers, *(tensor for tensor in builder.initializers if tensor.name in needed)],
        )
        domains = {entry.domain: entry.version for entry in old.opset_import}
        domains = _DOMAIN_VERSIONS | domains
        used = builder.domains | {"", *(entry.domain for entry in old.opset_import)}
        opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items() if domain in used]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=old.ir_version, producer_name="deepthin")
        model.metadata_props.extend(old.metadata_props)
        return model

    def _replaced(self, node: NodeProto) -> bool:
        return any(name in self._compressed for name in node.input)

    def _bias(self, name: str, R: int, scale: float = 1.0) -> str:
        array = np.broadcast_to(values(self._stored[name]).astype(np.float32).reshape(-1) * np.float32(scale), (R,))
        if scale == 1.0 and tuple(self._stored[name].dims) == (R,):
            return name
        return self._builder.constant(name, np.ascontiguousarray(array))

    def _lookup(self, node: NodeProto, layer: Layer) -> None:
        compressed = self._compressed[layer.name]
        chosen = method(compressed.plan.method)
        if not isinstance(chosen, TableMethod):
            raise CompressionError(f"{layer.name}: {chosen.name} takes no table that is looked up")
        # Whole numbers of 32 bits may look up as well; methods count with those of 64.
        indices = self._builder.node("Cast", [node.input[1]], to=TensorProto.INT64)
        y = chosen.export_lookup(compressed, self._builder, layer.name, indices)
        self._builder.rename(y, node.output[0])

    def _matmul(self, graph: onnx.GraphProto, node: NodeProto, layer: Layer, gone: set[str]) -> None:
        compressed = self._compressed[layer.name]
        added = _added(graph, node, self._stored, self._uses, layer.R)
        bias, output = None, node.output[0]
        if added is not None:
            bias, output = self._bias(added[1], layer.R), added[0].output[0]
            gone.add(output)
        y = method(compressed.plan.method).export(compressed, self._builder, layer.name, node.input[0], bias)
        self._builder.rename(y, output)

    def _gemm(self, node: NodeProto, layer: Layer) -> None:
        builder, compressed, fixed = self._builder, self._compressed[layer.name], attributes(node)
        x = builder.node("Transpose", [node.input[0]], perm=[1, 0]) if fixed.get("transA", 0) else node.input[0]
        alpha, beta = float(fixed.get("alpha", 1.0)), float(fixed.get("beta", 1.0))
        other = node.input[2] if len(node.input) > 2 else ""
        bias = None
        if other in self._stored and int(np.prod(self._stored[other].dims)) in (1, layer.R):
            dims = [size for size in self._stored[other].dims if size != 1]
            if alpha == 1.0 and (dims in ([], [layer.R])) and (not dims or self._stored[other].dims[-1] == layer.R):
                bias, other = self._bias(other, layer.R, beta), ""
        y = method(compressed.plan.method).export(compressed, builder, layer.name, x, bias)
        if alpha != 1.0:
            y = builder.node("Mul", [y, builder.constant("alpha", np.asarray(alpha, np.float32))])
        if other:
            if beta != 1.0:
                other = builder.node("Mul", [other, builder.constant("beta", np.asarray(beta, np.float32))])
            y = builder.node("Add", [y, other])
        builder.rename(y, node.output[0])

    def _conv(self, node: NodeProto, layer: Layer) -> None:
        compressed, fixed = self._compressed[layer.name], attributes(node)
        given = node.input[2] if len(node.input) > 2 else ""
        bias = given or None
        chosen = method(compressed.plan.method)
        if isinstance(chosen, ConvMethod):
            whole = {**fixed, "kernel_shape": list(layer.shape[2:])}
            y = chosen.export_conv(compressed, self._builder, layer.name, node.input[0], bias, whole)
        else:
            y = export_unfolded(chosen, compressed, self._builder, layer, node.input[0], bias, fixed)
        self._builder.rename(y, node.output[0])

    def _recurrent(self, node: NodeProto) -> None:
        both = []
        for operand in (1, 2):
            layer = self._layers[node.input[operand]]
            dense = METHODS["dense"]
            weight = self._compressed.get(layer.name)
            if weight is None:
                weight = dense.compress(self._network.weight(layer), dense.plan(layer.Q, layer.R, 1.0))
            both.append((layer, weight))
        name = node.input[3] if len(node.input) > 3 else ""
        bias: Array | None = values(self._stored[name]).reshape(-1).astype(np.float32) if name else None
        layers, weights = (both[0][0], both[1][0]), (both[0][1], both[1][1])
        add = export_gru if node.op_type == "GRU" else export_lstm
        add(self._builder, node, layers, weights, bias)


def _fused(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """The nodes with activations taken into the library's operators that come right before them."""
    readers: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in reads(node):
            readers.setdefault(name, []).append(node)
    gone: set[int] = set()
    for node in nodes:
        if node.domain != "deepthin" or node.op_type not in _MATRIX_OPS or node.output[0] in outputs:
            continue
        behind = readers.get(node.output[0], [])
        if len(behind) != 1 or behind[0].op_type not in _ACTIVATIONS or behind[0].domain not in ("", "ai.onnx"):
            continue
        if attributes(node).get("activation", b""):
            continue
        kept = [attribute for attribute in node.attribute if attribute.name != "activation"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("activation", _ACTIVATIONS[behind[0].op_type])])
        node.output[0] = behind[0].output[0]
        gone.add(id(behind[0]))
    return [node for node in nodes if id(node) not in gone]
