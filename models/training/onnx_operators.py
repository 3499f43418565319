"""The ONNX operators that `onnx_net` runs, each a function of a node and its input tensors: arithmetic and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor
from torch.nn import functional

from models.compression.base import CompressionError


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph.

    Attributes:
        op: the operator's name.
        name: the node's name, or that of its first output.
        inputs: names of its inputs, "" for one that is left out.
        outputs: names of its outputs, "" for one that is left out.
        attributes: by name, as Python values.
        opset: version of the operator set that the graph was written for.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; text as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def error(self, problem: str) -> CompressionError:
        """An error that names the node."""
        return CompressionError(f"node {self.name!r} ({self.op}): {problem}")


Inputs = Sequence[Tensor | None]
Operator = Callable[[Node, Inputs], Tensor | tuple[Tensor, ...]]

OPERATORS: dict[str, Operator] = {}

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_OTHERS = {TensorProto.INT64: torch.int64, TensorProto.INT32: torch.int32, TensorProto.BOOL: torch.bool}


def operator(*names: str) -> Callable[[Operator], Operator]:
    """Register a function for operators of these names."""

    def register(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
        return function

    return register


def tensor(values: np.ndarray[Any, Any]) -> Tensor:
    """A tensor of an array; floats of any width become fp32, in which everything is computed."""
    array = np.asarray(values)
    return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype))


def given(node: Node, inputs: Inputs, index: int) -> Tensor:
    """An input that has to be there."""
    value = inputs[index] if index < len(inputs) else None
    if value is None:
        raise node.error(f"input {index} is missing")
    return value


def _integers(node: Node, inputs: Inputs, index: int, attribute: str) -> list[int] | None:
    """Whole numbers that older operator sets give as an attribute and newer ones as an input."""
    if index < len(inputs):
        value = inputs[index]
        return None if value is None else [int(v) for v in value.reshape(-1).tolist()]
    given = node.get(attribute)
    return None if given is None else [int(v) for v in np.atleast_1d(given)]


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Dropout": lambda x: x,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Identity": lambda x: x,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "Sub": torch.sub,
}


@operator(*_UNARY)
def _unary(node: Node, inputs: Inputs) -> Tensor:
    return _UNARY[node.op](given(node, inputs, 0))


@operator(*_BINARY)
def _binary(node: Node, inputs: Inputs) -> Tensor:
    values = [given(node, inputs, index) for index in range(len(inputs))]
    if len(values) < 2 and node.op not in ("Max", "Min"):
        raise node.error("needs two inputs")
    result = values[0]
    for value in values[1:]:
        result = _BINARY[node.op](result, value)
    return result


@operator("Div")
def _div(node: Node, inputs: Inputs) -> Tensor:
    x, y = given(node, inputs, 0), given(node, inputs, 1)
    return torch.div(x, y) if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


@operator("LeakyRelu")
def _leaky_relu(node: Node, inputs: Inputs) -> Tensor:
    return functional.leaky_relu(given(node, inputs, 0), node.get("alpha", 0.01))


@operator("Elu")
def _elu(node: Node, inputs: Inputs) -> Tensor:
    return functional.elu(given(node, inputs, 0), node.get("alpha", 1.0))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, inputs: Inputs) -> Tensor:
    return torch.clamp(node.get("alpha", 0.2) * given(node, inputs, 0) + node.get("beta", 0.5), 0.0, 1.0)


@operator("Gelu")
def _gelu(node: Node, inputs: Inputs) -> Tensor:
    return functional.gelu(given(node, inputs, 0), approximate=node.get("approximate", "none"))


@operator("Clip")
def _clip(node: Node, inputs: Inputs) -> Tensor:
    if node.opset < 11:
        return torch.clamp(given(node, inputs, 0), node.get("min"), node.get("max"))
    low, high = (inputs[index] if index < len(inputs) else None for index in (1, 2))
    if low is None and high is None:
        return given(node, inputs, 0)
    return torch.clamp(given(node, inputs, 0), low, high)


@operator("MatMul")
def _matmul(node: Node, inputs: Inputs) -> Tensor:
    return torch.matmul(given(node, inputs, 0), given(node, inputs, 1))


@operator("Gemm")
def _gemm(node: Node, inputs: Inputs) -> Tensor:
    a, b = given(node, inputs, 0), given(node, inputs, 1)
    product = (a.t() if node.get("transA", 0) else a) @ (b.t() if node.get("transB", 0) else b)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    product = product if alpha == 1 else product * alpha
    if len(inputs) < 3 or inputs[2] is None:
        return product
    return product + (inputs[2] if beta == 1 else inputs[2] * beta)


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    function = torch.softmax if node.op == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        return function(x, dim=node.get("axis", -1))
    axis = node.get("axis", 1) % x.dim()
    return function(x.flatten(axis), dim=-1).reshape(x.shape)


@operator("ReduceMean", "ReduceSum", "ReduceMax")
def _reduce(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    axes = _integers(node, inputs, 1, "axes")
    if not axes:
        if node.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.dim()))
    keep = bool(node.get("keepdims", 1))
    functions: dict[str, Callable[..., Tensor]] = {
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
    }
    return functions[node.op](x, dim=axes, keepdim=keep)


@operator("Cast")
def _cast(node: Node, inputs: Inputs) -> Tensor:
    to = node.get("to")
    if to in _FLOATS:
        return given(node, inputs, 0).to(torch.float32)
    if to not in _OTHERS:
        raise node.error(f"a cast to {TensorProto.DataType.Name(to)} is not supported")
    return given(node, inputs, 0).to(_OTHERS[to])


@operator("Constant")
def _constant(node: Node, inputs: Inputs) -> Tensor:
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64)):
        if name in node.attributes:
            return tensor(np.asarray(node.get(name), dtype=kind))
    if "value_ints" in node.attributes:
        return tensor(np.asarray(node.get("value_ints"), dtype=np.int64))
    if "value" not in node.attributes:
        raise node.error("only constants of numbers are supported")
    return tensor(numpy_helper.to_array(node.get("value")))


@operator("ConstantOfShape")
def _constant_of_shape(node: Node, inputs: Inputs) -> Tensor:
    shape = _integers(node, inputs, 0, "shape") or []
    value = node.get("value")
    fill = torch.zeros(1) if value is None else tensor(numpy_helper.to_array(value))
    return fill.reshape(()).expand(shape)


@operator("Shape")
def _shape(node: Node, inputs: Inputs) -> Tensor:
    shape = given(node, inputs, 0).shape
    return torch.tensor(list(shape)[node.get("start", 0) : node.get("end", len(shape))], dtype=torch.int64)


@operator("Gather")
def _gather(node: Node, inputs: Inputs) -> Tensor:
    x, indices = given(node, inputs, 0), given(node, inputs, 1)
    axis = node.get("axis", 0) % x.dim()
    flat = indices.reshape(-1).to(torch.int64)
    picked = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("Slice")
def _slice(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    starts, ends = _integers(node, inputs, 1, "starts"), _integers(node, inputs, 2, "ends")
    if starts is None or ends is None:
        raise node.error("needs starts and ends")
    axes = _integers(node, inputs, 3, "axes") or list(range(len(starts)))
    steps = _integers(node, inputs, 4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(x.shape[axis])[start:end:step]
        if step > 0:
            index = (slice(None),) * (axis % x.dim()) + (slice(chosen.start, max(chosen.stop, chosen.start), step),)
            x = x[index]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x


@operator("Concat")
def _concat(node: Node, inputs: Inputs) -> Tensor:
    return torch.cat([given(node, inputs, index) for index in range(len(inputs))], dim=node.get("axis"))


@operator("Split")
def _split(node: Node, inputs: Inputs) -> tuple[Tensor, ...]:
    x, axis = given(node, inputs, 0), node.get("axis", 0)
    lengths = _integers(node, inputs, 1, "split")
    if lengths is None:
        share = math.ceil(x.shape[axis] / len(node.outputs))
        return torch.split(x, share, dim=axis)
    return torch.split(x, lengths, dim=axis)


@operator("Reshape")
def _reshape(node: Node, inputs: Inputs) -> Tensor:
    x, shape = given(node, inputs, 0), _integers(node, inputs, 1, "shape")
    if shape is None:
        raise node.error("needs a shape")
    if not node.get("allowzero", 0):
        shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return x.reshape(shape)


@operator("Flatten")
def _flatten(node: Node, inputs: Inputs) -> Tensor:
    x, axis = given(node, inputs, 0), node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def _transpose(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    return x.permute(node.get("perm", list(range(x.dim()))[::-1]))


@operator("Squeeze")
def _squeeze(node: Node, inputs: Inputs) -> Tensor:
    axes = _integers(node, inputs, 1, "axes")
    x = given(node, inputs, 0)
    return x.squeeze() if axes is None else x.squeeze(axes)


@operator("Unsqueeze")
def _unsqueeze(node: Node, inputs: Inputs) -> Tensor:
    x, axes = given(node, inputs, 0), _integers(node, inputs, 1, "axes")
    if axes is None:
        raise node.error("needs axes")
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Expand")
def _expand(node: Node, inputs: Inputs) -> Tensor:
    x, shape = given(node, inputs, 0), _integers(node, inputs, 1, "shape") or []
    return x.expand(torch.broadcast_shapes(x.shape, shape))  # type: ignore[no-untyped-call]


@operator("Pad")
def _pad(node: Node, inputs: Inputs) -> Tensor:
    x, pads, mode = given(node, inputs, 0), _integers(node, inputs, 1, "pads"), node.get("mode", "constant")
    axes = _integers(node, inputs, 3, "axes") if len(inputs) > 3 else None
    if pads is None or mode not in ("constant", "edge", "reflect"):
        raise node.error("needs paddings, with mode 'constant', 'edge' or 'reflect'")
    fill = inputs[2] if len(inputs) > 2 else None
    value = node.get("value", 0.0) if fill is None else fill.item()
    axes = list(range(x.dim())) if axes is None else axes
    for number, axis in enumerate(axes):
        before, after = pads[number], pads[number + len(axes)]
        if before == after == 0:
            continue
        last = x.shape[axis] - 1
        places = torch.arange(-before, last + 1 + after)
        if mode == "reflect":
            places = last - (last - places.abs()).abs()
        inside = x.index_select(axis, places.clamp(0, last))
        if mode == "constant":
            outside = ((places < 0) | (places > last)).reshape([-1] + [1] * (x.dim() - axis % x.dim() - 1))
            inside = inside.masked_fill(outside, value)
        x = inside
    return x
