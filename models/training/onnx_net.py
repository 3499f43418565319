"""An ONNX graph as a PyTorch module whose weights can be trained, and replaced by parametrized ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.compression.base import Array, CompressionError
from models.training import onnx_layers
from models.training.compressed_weight import originals
from models.training.onnx_operators import OPERATORS, Node, tensor

SUPPORTED_OPERATORS = tuple(sorted(OPERATORS))
"""What a graph may be made of, all in the standard domain."""

# Inputs that hold weights, by operator; the rest (paddings, bounds, running means) are constants.
_TRAINED = {
    "MatMul": (0, 1),
    "Gemm": (1, 2),
    "Conv": (1, 2),
    "GRU": (1, 2, 3),
    "Add": (0, 1),
    "Sub": (0, 1),
    "Mul": (0, 1),
    "Div": (0, 1),
    "BatchNormalization": (1, 2),
    "LayerNormalization": (1, 2),
}
_PASSED_ON = ("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

assert onnx_layers.__name__  # importing it registers its operators


class OnnxNet(nn.Module):
    """The graph. Its parameters are the float initialisers of layers, arithmetic and normalisations, in their shapes.

    Everything is computed in fp32, whatever the width of the floats in the graph.

    Attributes:
        inputs: names of the graph's inputs.
        outputs: names of its outputs.
        parameter_names: initialisers that are parameters.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Convert `model`.

        Raises:
            CompressionError: an operator is not supported; the message names it and those that are.
        """
        super().__init__()
        graph = model.graph
        self._nodes = _nodes(model)
        values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.inputs = tuple(i.name for i in graph.input if i.name not in values)
        self.outputs = tuple(o.name for o in graph.output)
        self._origin = _origins(self._nodes, values)
        trained = _trained(self._nodes, values, self._origin)
        self.parameter_names = tuple(name for name in values if name in trained)
        self._leaf = {name: f"value{number}" for number, name in enumerate(values)}
        self._dtypes = {name: array.dtype for name, array in values.items()}
        for name, array in values.items():
            if name in trained:
                self.register_parameter(self._leaf[name], nn.Parameter(tensor(array)))
            else:
                self.register_buffer(self._leaf[name], tensor(array), persistent=False)
        self._last_use = _last_uses(self._nodes, self.outputs)
        self._factored: dict[str, str] = {}

    def forward(self, feeds: Mapping[str, Tensor], wanted: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Values of the `wanted` names (the graph's outputs when None) for values of its inputs."""
        kept = set(self.outputs if wanted is None else wanted)
        known = {name: getattr(self, leaf) for name, leaf in self._leaf.items() if name not in self._factored}
        for name in self.inputs:
            if name not in feeds:
                raise CompressionError(f"there is no value for the graph's input {name!r}")
            known[name] = feeds[name]
        for number, node in enumerate(self._nodes):
            if any(self._origin.get(name) in self._factored for name in node.outputs):
                continue
            arguments = [known.get(name) for name in node.inputs]
            leaf = self._factored.get(self._weight_of(node))
            try:
                result = OPERATORS[node.op](node, arguments) if leaf is None else self._product(leaf, arguments)
            except (RuntimeError, IndexError, TypeError) as error:
                raise node.error(str(error)) from error
            values = (result,) if isinstance(result, Tensor) else result
            known.update((name, value) for name, value in zip(node.outputs, values, strict=False) if name)
            for name in self._last_use.get(number, ()):
                if name not in kept:
                    known.pop(name, None)
        return {name: known[name] for name in kept}

    def initialiser(self, name: str) -> str:
        """The initialiser that `name` is or, behind casts of constants, comes from.

        Raises:
            CompressionError: there is none.
        """
        name = self._origin.get(name, name)
        if name not in self._leaf:
            raise CompressionError(f"the graph has no initialiser {name!r}")
        return name

    def inputs_first(self, name: str) -> bool:
        """Whether a weight is stored as [Q, R]; otherwise its outputs come first, as [R, ...].

        Raises:
            CompressionError: it is not the weight of a MatMul, Gemm, Conv or GRU, or of several that disagree.
        """
        found = set()
        for node in self._nodes:
            if name not in [self._origin.get(given, given) for given in node.inputs]:
                continue
            place = [self._origin.get(given, given) for given in node.inputs].index(name)
            if node.op == "MatMul" and place == 1 and getattr(self, self._leaf[name]).dim() == 2:
                found.add(True)
            elif node.op == "Gemm" and place == 1:
                found.add(not node.get("transB", 0))
            elif (node.op == "Conv" and place == 1 and node.get("group", 1) == 1) or (
                node.op == "GRU" and place in (1, 2)
            ):
                found.add(False)
            elif node.op not in ("Cast", "Identity"):
                raise node.error(f"{name!r} cannot be replaced by a compressed weight here")
        if len(found) != 1:
            raise CompressionError(f"{name!r} is not the weight of one MatMul, Gemm, Conv or GRU")
        return found.pop()

    def matrix(self, name: str) -> Array:
        """A weight as the matrix [Q, R] that compression methods see."""
        name = self.initialiser(name)
        values = getattr(self, self._leaf[name]).detach().numpy()
        if self.inputs_first(name):
            return np.ascontiguousarray(values)
        R = values.shape[1] if values.ndim == 3 and self._is_recurrent(name) else values.shape[0]
        return np.ascontiguousarray(values.reshape(R, -1).T)

    def parametrize(self, name: str, parametrization: nn.Module) -> None:
        """Compute a weight, in its shape, by a parametrization (see `torch.nn.utils.parametrize`).

        One with a method `product(x, *values)` is asked for ``x · W`` instead where that is all the graph does with it.
        """
        name = self.initialiser(name)
        parametrize.register_parametrization(self, self._leaf[name], parametrization)
        users = [n for n in self._nodes if name in (self._origin.get(given, given) for given in n.inputs)]
        plain = [n for n in users if _multiplies(n) or n.outputs[0] in self._origin]
        if hasattr(parametrization, "product") and plain == users:
            self._factored[name] = self._leaf[name]

    def trained(self, name: str) -> list[nn.Parameter]:
        """The parameters behind an initialiser: itself, or the values that its parametrization works on."""
        leaf = self._leaf[self.initialiser(name)]
        if parametrize.is_parametrized(self, leaf):
            return originals(cast(parametrize.ParametrizationList, self.parametrizations[leaf]))  # type: ignore[index]
        value = getattr(self, leaf)
        return [value] if isinstance(value, nn.Parameter) else []

    def value(self, name: str) -> Array:
        """An initialiser's present value in the type that it has in the graph."""
        name = self.initialiser(name)
        array = getattr(self, self._leaf[name]).detach().numpy()
        return np.ascontiguousarray(array.astype(self._dtypes[name]))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an initialiser."""
        return tuple(getattr(self, self._leaf[self.initialiser(name)]).shape)

    def _weight_of(self, node: Node) -> str:
        given = node.inputs[1] if len(node.inputs) > 1 else ""
        return self._origin.get(given, given)

    def _product(self, leaf: str, arguments: Sequence[Tensor | None]) -> Tensor:
        values = cast(parametrize.ParametrizationList, self.parametrizations[leaf])  # type: ignore[index]
        product: Tensor = values[0].product(arguments[0], *originals(values))  # type: ignore[operator]
        bias = arguments[2] if len(arguments) > 2 else None
        return product if bias is None else product + bias

    def _is_recurrent(self, name: str) -> bool:
        return any(node.op == "GRU" and name in node.inputs for node in self._nodes)


def _multiplies(node: Node) -> bool:
    """Whether a node is ``x · W``, or that plus a bias, and nothing else."""
    if node.op == "Gemm":
        return node.get("alpha", 1.0) == node.get("beta", 1.0) == 1.0 and not node.get("transA", 0)
    return node.op == "MatMul"


def posterior(model: onnx.ModelProto, output: str) -> str | None:
    """The operator ("LogSoftmax" or "Softmax") that makes an output over its last axis; None when it is another."""
    ranks = {o.name: len(o.type.tensor_type.shape.dim) for o in model.graph.output}
    for node in _nodes(model):
        if output in node.outputs and node.op in ("LogSoftmax", "Softmax"):
            axis = node.get("axis", -1 if node.opset >= 13 else 1)
            return node.op if axis in (-1, ranks.get(output, 0) - 1) else None
    return None


def _nodes(model: onnx.ModelProto) -> list[Node]:
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    nodes = []
    for proto in model.graph.node:
        if proto.domain not in ("", "ai.onnx") or proto.op_type not in OPERATORS:
            full = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            raise CompressionError(
                f"node {proto.name or proto.output[0]!r}: {full} cannot be fine-tuned; "
                f"supported are {', '.join(SUPPORTED_OPERATORS)}"
            )
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        name = proto.name or proto.output[0]
        nodes.append(Node(proto.op_type, name, tuple(proto.input), tuple(proto.output), attributes, opset))
    return nodes


def _origins(nodes: list[Node], values: Mapping[str, Array]) -> dict[str, str]:
    """Names that are an initialiser cast to another width or copied, to the initialiser."""
    origin: dict[str, str] = {}
    for node in nodes:
        if node.op == "Identity" or (node.op == "Cast" and node.get("to") in _FLOATS):
            source = origin.get(node.inputs[0], node.inputs[0])
            if source in values and values[source].dtype.kind == "f":
                origin[node.outputs[0]] = source
    return origin


def _trained(nodes: list[Node], values: Mapping[str, Array], origin: Mapping[str, str]) -> set[str]:
    """Float initialisers of more than one value that reach a layer, directly or with their shape changed."""
    source = {name: name for name, array in values.items() if array.dtype.kind == "f" and array.size > 1}
    source.update((name, by) for name, by in origin.items() if by in source)
    found = set()
    for node in nodes:
        if node.op in _PASSED_ON and node.inputs[0] in source:
            source[node.outputs[0]] = source[node.inputs[0]]
        for place in _TRAINED.get(node.op, ()):
            if place < len(node.inputs) and node.inputs[place] in source:
                found.add(source[node.inputs[place]])
    return found


def _last_uses(nodes: list[Node], outputs: Iterable[str]) -> dict[int, list[str]]:
    """Values to forget after each node, so that only what is still needed stays in memory."""
    last: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in (*node.inputs, *node.outputs):
            if name:
                last[name] = number
    uses: dict[int, list[str]] = {}
    for name, number in last.items():
        if name not in set(outputs):
            uses.setdefault(number, []).append(name)
    return uses
