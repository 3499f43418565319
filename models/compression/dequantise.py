"""Integer-quantised layers of a checkpoint as the fp32 layers that they stand for.

What ONNX Runtime's quantisation tools write is recognised: `DequantizeLinear` of a constant weight, `QLinearMatMul`,
`QLinearConv`, `MatMulInteger` or `ConvInteger` between `DynamicQuantizeLinear` and the products with the scales, fused
into `DynamicQuantizeMatMul` too, `DynamicQuantizeLSTM`, `MatMulNBits` with 4 or 8 bits, and constants cast, multiplied
and added to. The rounding of inputs goes with it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.compression.base import Array
from models.compression.bodies import graphs, places

_SUFFIX: Final = "_quantized"  # what ONNX Runtime's tools put behind a weight's name
_MOVED: Final = ("Gather", "Transpose")  # between a table of integers and the DequantizeLinear of what comes of it
_ARITHMETIC: Final = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract}
_INTEGERS: Final = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32)


def dequantise(graph: onnx.GraphProto) -> dict[str, int]:
    """Replace quantised layers with constant weights, in place.

    A layer in another form than those that are known stays as it is. What makes the integers and scales of those that
    went is left in the graph, without readers.

    Returns:
        Bytes that each weight, which is an fp32 initialiser now, took in the checkpoint.
    """
    return _Dequantiser(graph).run()


class _Dequantiser:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = [place.node for place in places(graph)]
        self._made = {name: node for node in self._nodes for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for each in graphs(graph) for value in each.output}
        self._taken = set(self._stored) | set(self._made)
        self._taken |= {value.name for each in graphs(graph) for value in each.input}
        self._weights: dict[tuple[str, ...], str] = {}
        self._bytes: dict[str, int] = {}
        # Nodes to put in the place of one that makes a value, by the value's name.
        self._instead: dict[str, list[NodeProto]] = {}

    def run(self) -> dict[str, int]:
        for node in self._nodes:
            if node.op_type in ("MatMulInteger", "ConvInteger"):
                self._integer(node)
            elif node.op_type == "DynamicQuantizeMatMul" and node.domain == "com.microsoft":
                self._fused(node)
            elif node.op_type == "DynamicQuantizeLSTM" and node.domain == "com.microsoft":
                self._lstm(node)
            elif node.op_type == "MatMulNBits" and node.domain == "com.microsoft":
                self._blocks(node)
            elif node.op_type in ("QLinearMatMul", "QLinearConv"):
                self._linear(node)
            elif node.op_type == "DequantizeLinear":
                self._constant(node)
            elif node.op_type == "Cast":
                self._arithmetic(node)
        if not self._instead:
            return {}
        for each in graphs(self._graph):
            nodes = []
            for node in each.node:
                nodes += self._instead.get(node.output[0], [node]) if node.output else [node]
            del each.node[:]
            each.node.extend(nodes)
        return self._bytes

    def _integer(self, node: NodeProto) -> None:
        """``y = Cast(product) * (x_scale * w_scale)``, the factors in any order."""
        quantised = self._made.get(node.input[0])
        if quantised is None or quantised.op_type != "DynamicQuantizeLinear" or quantised.output[0] != node.input[0]:
            return
        given = node.input[2] if len(node.input) > 2 else ""
        cast = self._sole_reader(node.output[0])
        if given != quantised.output[2] or cast is None or cast.op_type != "Cast":
            return
        end = cast.output[0]
        scales: list[str] = []
        while len(scales) < 2:
            product = self._sole_reader(end)
            if product is None or product.op_type != "Mul" or end not in product.input:
                return
            other = product.input[1 if product.input[0] == end else 0]
            inner = self._made.get(other)
            scales += list(inner.input) if inner is not None and inner.op_type == "Mul" else [other]
            end = product.output[0]
        known = [name for name in scales if name != quantised.output[1]]
        if len(scales) != 2 or len(known) != 1:
            return
        conv, steps = node.op_type == "ConvInteger", self._array(known[0])
        if steps is None or (conv and steps.ndim == 1 and steps.size > 1):
            return
        weight = self._weight(node.input[1], known[0], node.input[3] if len(node.input) > 3 else "", 0 if conv else 1)
        if weight is not None:
            self._put(node, end, [quantised.input[0], weight])

    def _fused(self, node: NodeProto) -> None:
        """``y = A * dequantised(B, scale, zero) + bias``."""
        zero, bias = [*node.input, "", ""][3:5]
        weight = self._weight(node.input[1], node.input[2], zero, 1)
        if weight is not None:
            self._product(node, weight, bias)

    def _lstm(self, node: NodeProto) -> None:
        """An LSTM whose weights [directions, Q, 4 H] are turned round, with a scale for each direction or gate row."""
        x, w, r, bias, lengths, hidden, cell, peepholes, *quantised = node.input
        weights = []
        for name, scale, zero in ((w, *quantised[:2]), (r, *quantised[2:])):
            tensor, steps, middle = self._stored.get(name), self._array(scale), self._array(zero)
            if tensor is None or steps is None or middle is None:
                return
            if (name, scale, zero) not in self._weights:
                integers = numpy_helper.to_array(tensor)
                steps, middle = (each.reshape(integers.shape[0], 1, -1) for each in (steps, middle))
                made = self._add(name, ((integers - middle) * steps).transpose(0, 2, 1))
                self._weights[name, scale, zero] = made
                self._bytes[made] = integers.nbytes
            weights.append(self._weights[name, scale, zero])
        inputs = [x, *weights, bias, lengths, hidden, cell, peepholes]
        while not inputs[-1]:
            inputs.pop()
        if not node.output[0]:
            node.output[0] = self._fresh(f"{next(name for name in node.output if name)}.states")
        layer = helper.make_node("LSTM", inputs, list(node.output), name=node.name)
        layer.attribute.extend(node.attribute)
        self._instead[node.output[0]] = [layer]

    def _blocks(self, node: NodeProto) -> None:
        """Rows of 4 or 8 bits with a scale, and perhaps a zero point, for each block of a row."""
        fixed = {attribute.name: attribute.i for attribute in node.attribute}
        name, scale, zero, order, bias = [*node.input, "", "", ""][1:6]
        tensor, steps, bits = self._stored.get(name), self._stored.get(scale), fixed.get("bits", 4)
        known = tensor is not None and steps is not None and steps.data_type == TensorProto.FLOAT
        if not known or order or bits not in (4, 8) or (zero and zero not in self._stored):
            return
        assert tensor is not None and steps is not None
        packed, scales = numpy_helper.to_array(tensor), numpy_helper.to_array(steps)
        R, blocks = packed.shape[:2]
        middle = np.full((R, blocks), 1 << (bits - 1), np.float32)
        if zero:
            given = numpy_helper.to_array(self._stored[zero]).reshape(R, -1)
            middle = (_unpacked(given, bits) if given.dtype == np.uint8 else given)[:, :blocks].astype(np.float32)
        codes = _unpacked(packed, bits).astype(np.float32) - middle[:, :, None]
        weight = self._weights.get((name, scale, zero))
        if weight is None:
            values = (codes * scales.reshape(R, blocks, 1)).reshape(R, -1)[:, : fixed["K"]].T
            weight = self._weights[name, scale, zero] = self._add(name, values)
            self._bytes[weight] = packed.nbytes
        self._product(node, weight, bias)

    def _product(self, node: NodeProto, weight: str, bias: str) -> None:
        y = node.output[0] if not bias else self._fresh(f"{node.output[0]}.product")
        nodes = [helper.make_node("MatMul", [node.input[0], weight], [y], name=node.name)]
        if bias:
            nodes.append(helper.make_node("Add", [y, bias], [node.output[0]]))
        self._instead[node.output[0]] = nodes

    def _linear(self, node: NodeProto) -> None:
        """Between quantised values: the layer, and what makes them of its input and output."""
        x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.input
        conv = node.op_type == "QLinearConv"
        weight = self._weight(w, w_scale, w_zero, 0 if conv else 1)
        if weight is None:
            return
        inputs = [self._fresh(f"{x}.float"), weight]
        if bias and bias[0]:
            scale = self._array(x_scale)
            if scale is None or bias[0] not in self._stored:
                return
            stored, steps = self._array(bias[0]), self._array(w_scale)
            assert stored is not None and steps is not None  # the weight's scale is a constant, or there was no weight
            inputs.append(self._add(bias[0], stored * scale.reshape(-1) * steps.reshape(-1)))
        y = self._fresh(f"{node.output[0]}.float")
        layer = helper.make_node("Conv" if conv else "MatMul", inputs, [y], name=node.name)
        layer.attribute.extend(node.attribute)
        self._instead[node.output[0]] = [
            helper.make_node("DequantizeLinear", [x, x_scale, x_zero], [inputs[0]]),
            layer,
            helper.make_node("QuantizeLinear", [y, y_scale, y_zero], [node.output[0]]),
        ]

    def _constant(self, node: NodeProto) -> None:
        fixed = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if fixed.get("block_size", 0) or node.output[0] in self._outputs:
            return
        zero = node.input[2] if len(node.input) > 2 else ""
        behind = self._made.get(node.input[0])
        if behind is not None and behind.op_type in _MOVED and behind.input[0] in self._stored:
            steps = self._array(node.input[1])
            # Rows and axes that only change places: the values are the same before and after where the scale is one.
            weight = None if steps is None or steps.size != 1 else self._weight(behind.input[0], node.input[1], zero, 0)
            if weight is not None:
                moved = helper.make_node(behind.op_type, [weight, *behind.input[1:]], [node.output[0]])
                moved.attribute.extend(behind.attribute)
                self._instead[node.output[0]] = [moved]
            return
        weight = self._weight(node.input[0], node.input[1], zero, int(fixed.get("axis", 1)))
        if weight is not None:
            self._instead[node.output[0]] = [helper.make_node("Identity", [weight], [node.output[0]])]

    def _arithmetic(self, node: NodeProto) -> None:
        """Integers cast to floats, times and plus constants."""
        tensor = self._stored.get(node.input[0])
        whole = tensor is not None and tensor.data_type in _INTEGERS and len(tensor.dims) > 1
        if not whole or next(each.i for each in node.attribute if each.name == "to") != TensorProto.FLOAT:
            return
        assert tensor is not None
        integers = numpy_helper.to_array(tensor)
        result, end = integers.astype(np.float64), node.output[0]
        while (step := self._sole_reader(end)) is not None and step.op_type in _ARITHMETIC:
            left, right = (result if name == end else self._array(name) for name in step.input)
            if left is None or right is None or np.broadcast_shapes(left.shape, right.shape) != result.shape:
                break
            result, end = _ARITHMETIC[step.op_type](left, right), step.output[0]
        if end in self._outputs or end == node.output[0]:
            return
        made = self._add(node.input[0], result)
        self._bytes[made] = integers.nbytes
        self._instead[end] = [helper.make_node("Identity", [made], [end])]

    def _put(self, node: NodeProto, y: str, inputs: list[str]) -> None:
        layer = helper.make_node(node.op_type.removesuffix("Integer"), inputs, [y], name=node.name)
        layer.attribute.extend(node.attribute)
        self._instead[y] = [layer]

    def _weight(self, name: str, scale: str, zero: str, axis: int) -> str | None:
        """Name of the fp32 initialiser of a quantised one; None where they are no constants of a known form."""
        if (name, scale, zero) in self._weights:
            return self._weights[name, scale, zero]
        tensor, steps = self._stored.get(name), self._array(scale)
        middle = self._array(zero) if zero else np.zeros(1)
        if tensor is None or tensor.data_type not in _INTEGERS or steps is None or middle is None:
            return None
        values = numpy_helper.to_array(tensor)
        shaped = [_along(each, values.ndim, axis) for each in (steps, middle)]
        try:
            result = np.broadcast_to((values - shaped[1]) * shaped[0], values.shape)
        except ValueError:
            return None
        made = self._weights[name, scale, zero] = self._add(name, result)
        if values.ndim > 1:
            self._bytes[made] = values.nbytes
        return made

    def _add(self, name: str, values: Array) -> str:
        plain = name.removesuffix(_SUFFIX)
        fresh = plain if plain not in self._taken else self._fresh(f"{plain}.float")
        self._taken.add(fresh)
        tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), fresh)
        self._graph.initializer.append(tensor)
        self._stored[fresh] = tensor
        return fresh

    def _array(self, name: str) -> Array | None:
        tensor = self._stored.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor).astype(np.float64)

    def _sole_reader(self, name: str) -> NodeProto | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def _fresh(self, wish: str) -> str:
        name, number = wish, 0
        while name in self._taken:
            number += 1
            name = f"{wish}.{number}"
        self._taken.add(name)
        return name


def _unpacked(values: Array, bits: int) -> Array:
    """Numbers of 4 or 8 bits along the last axis, the first in the low bits of a byte."""
    if bits == 8:
        return values
    return np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:-1], -1)


def _along(values: Array, axes: int, axis: int) -> Array:
    """Values for each place of an axis in a shape that goes with a weight; those of a Conv's scale have it already."""
    if values.ndim == 1 and values.size > 1:
        shape = [1] * axes
        shape[axis if axis >= 0 else axis + axes] = values.size
        return values.reshape(shape)
    if values.ndim == axes > 2 and values.shape[1] > 1:  # [1, N, 1, ...], as it goes with a Conv's output
        return values.reshape(-1, *[1] * (axes - 1))
    return values
