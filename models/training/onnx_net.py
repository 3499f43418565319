"""An ONNX graph as a PyTorch module whose weights can be trained, and replaced by parametrized ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.compression.base import Array, CompressionError
from models.training import onnx_graph
from models.training.compressed_weight import originals
from models.training.onnx_control import CONTROL
from models.training.onnx_operators import OPERATORS, Body, Node, tensor


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
        model = onnx_graph.unfolded(model)
        self._graph = onnx_graph.read(model)
        self._nodes = tuple(self._graph.walk())
        values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        self.inputs, self.outputs = self._graph.inputs, self._graph.outputs
        self._origin = onnx_graph.origins(self._graph, values)
        trained = onnx_graph.trained(self._graph, values, self._origin)
        self.parameter_names = tuple(name for name in values if name in trained)
        self._leaf = {name: f"value{number}" for number, name in enumerate(values)}
        self._dtypes = {name: array.dtype for name, array in values.items()}
        for name, array in values.items():
            if name in trained:
                self.register_parameter(self._leaf[name], nn.Parameter(tensor(array)))
            else:
                self.register_buffer(self._leaf[name], tensor(array), persistent=False)
        self._factored: dict[str, str] = {}

    def forward(self, feeds: Mapping[str, Tensor], wanted: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Values of the `wanted` names (the graph's outputs when None) for values of its inputs."""
        kept = set(self.outputs if wanted is None else wanted)
        known = {name: getattr(self, leaf) for name, leaf in self._leaf.items() if name not in self._factored}
        for name in self.inputs:
            if name not in feeds:
                raise CompressionError(f"there is no value for the graph's input {name!r}")
            known[name] = feeds[name]
        self._compute(self._graph, known, kept)
        return {name: known[name] for name in kept}

    def _compute(self, body: Body, known: dict[str, Tensor], kept: set[str]) -> None:
        """Add what the nodes of a body make to what is `known`, and drop what is needed no more and not `kept`."""
        for number, node in enumerate(body.nodes):
            if any(self._origin.get(name) in self._factored for name in node.outputs):
                continue
            arguments = [known.get(name) for name in node.inputs]
            leaf = self._factored.get(self._weight_of(node))
            try:
                if leaf is not None:
                    result: Tensor | tuple[Tensor, ...] = self._product(leaf, arguments)
                elif node.op in CONTROL:
                    result = CONTROL[node.op](node, arguments, partial(self._inside, known))
                else:
                    result = OPERATORS[node.op](node, arguments)
            except (RuntimeError, IndexError, TypeError) as error:
                raise node.error(str(error)) from error
            values = (result,) if isinstance(result, Tensor) else result
            known.update((name, value) for name, value in zip(node.outputs, values, strict=False) if name)
            for name in body.last_use.get(number, ()):
                if name not in kept:
                    known.pop(name, None)

    def _inside(self, around: Mapping[str, Tensor], body: Body, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What a body gives for the `values` of its inputs, with what is known `around` it."""
        known = {**around, **dict(zip(body.inputs, values, strict=True))}
        self._compute(body, known, set(body.outputs))
        return tuple(known[name] for name in body.outputs)

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
            CompressionError: it is not the weight of a MatMul, Gemm, Conv or GRU, nor a table of which a Gather looks
                things up, or of several nodes that disagree.
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
            elif node.op == "Gather" and place == 0 and getattr(self, self._leaf[name]).dim() == 2:
                found.add(node.get("axis", 0) % 2 == 1)
            elif (node.op == "Conv" and place == 1 and node.get("group", 1) == 1) or (
                node.op == "GRU" and place in (1, 2)
            ):
                found.add(False)
            elif node.op not in ("Cast", "Identity"):
                raise node.error(f"{name!r} cannot be replaced by a compressed weight here")
        if len(found) != 1:
            raise CompressionError(f"{name!r} is not the weight of one MatMul, Gemm, Conv, GRU or Gather")
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
