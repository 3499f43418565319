"""The ONNX operators that `onnx_net` runs, each a function of a node and its input tensors: arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
        bodies: the graphs inside it, by the attribute that has them.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    bodies: Mapping[str, Body] = field(default_factory=dict)

    @property
    def reads(self) -> set[str]:
        """Names that it reads, those that its bodies read of the graphs around them included."""
        names = {name for name in self.inputs if name}
        for body in self.bodies.values():
            names |= body.reads
        return names

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; text as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def error(self, problem: str) -> CompressionError:
        """An error that names the node."""
        return CompressionError(f"node {self.name!r} ({self.op}): {problem}")


@dataclass(frozen=True, slots=True)
class Body:
    """A graph, or one inside a node, as nodes in the order in which they run.

    Attributes:
        inputs: names of what the node gives it.
        outputs: names of what it gives back.
        nodes: its nodes.
        last_use: names that nothing reads any more, by the index of the node that read them last.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    last_use: Mapping[int, Sequence[str]]

    @property
    def reads(self) -> set[str]:
        """Names that it reads or gives back and does not make itself."""
        read, made = set(self.outputs), set(self.inputs)
        for node in self.nodes:
            read |= node.reads
            made |= set(node.outputs)
        return read - made

    def walk(self) -> Iterator[Node]:
        """Its nodes, each followed by those inside it."""
        for node in self.nodes:
            yield node
            for body in node.bodies.values():
                yield from body.walk()


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


def integers(node: Node, inputs: Inputs, index: int, attribute: str) -> list[int] | None:
    """Whole numbers that older operator sets give as an attribute and newer ones as an input."""
    if index < len(inputs):
        value = inputs[index]
        return None if value is None else [int(v) for v in value.reshape(-1).tolist()]
    given = node.get(attribute)
    return None if given is None else [int(v) for v in np.atleast_1d(given)]


_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Dropout": lambda x: x,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Identity": lambda x: x,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Softplus": functional.softplus,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "Or": torch.logical_or,
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
    axes = integers(node, inputs, 1, "axes")
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
    shape = integers(node, inputs, 0, "shape") or []
    value = node.get("value")
    fill = torch.zeros(1) if value is None else tensor(numpy_helper.to_array(value))
    return fill.reshape(()).expand(shape)
