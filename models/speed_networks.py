"""The paper's two networks as ONNX graphs with random weights: dense, or each matrix in DeepThin form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ops.layout import smallest_size, solve

Shapes = dict[str, list[int | str]]

BINS, UNITS = 40, 128
"""Features of a frame, and outputs."""
CHUNK = 16
"""Output frames of `deepspeech` in a call."""
_LAYERS = 3
_SUBSAMPLING = 3
_CONTEXT = 6 + 3 * 4  # further feature frames that the convolutions of a chunk take


@dataclass(frozen=True, slots=True)
class Network:
    """A network.

    Attributes:
        model: serialised ONNX.
        weight_bytes: of all its constants.
    """

    model: bytes
    weight_bytes: int


def tfkaldi(rng: np.random.Generator, hidden: int, size: float | None) -> Network:
    """Eleven frames of 40 features through seven layers of `hidden` sigmoids and an output layer.

    Args:
        rng: makes the weights.
        hidden: width of the layers.
        size: relative size of every matrix, or the smallest that it can have; None for dense matrices.
    """
    graph = _Graph(rng, size)
    widths = [11 * BINS, *[hidden] * 7]
    y = "X"
    for inputs, outputs in pairwise(widths):
        y = graph.linear(y, inputs, outputs, "sigmoid")
    graph.linear(y, hidden, UNITS, "", "Y")
    return graph.network({"X": ["batch", widths[0]]}, {"Y": ["batch", UNITS]})


def deepspeech(rng: np.random.Generator, hidden: int, size: float | None) -> Network:
    """Two convolutions, three GRU layers, a ReLU layer and an output layer, over `CHUNK` output frames.

    The arguments are those of `tfkaldi`; the convolutions stay dense.
    """
    graph = _Graph(rng, size)
    y = graph.convolutions("X")
    inputs = 32 * BINS // 4
    given: Shapes = {}
    made: Shapes = {}
    for layer in range(_LAYERS):
        before, after = f"state{layer}", f"state{layer}.next"
        y = graph.gru(y, inputs, hidden, before, after)
        given[before] = made[after] = ["batch", hidden]
        inputs = hidden
    y = graph.linear(y, hidden, hidden, "relu")
    graph.linear(y, hidden, UNITS, "", "Y")
    made["Y"] = [CHUNK, "batch", UNITS]
    return graph.network(_front_input() | given, made)


def deepspeech_front(rng: np.random.Generator) -> Network:
    """The convolutions of `deepspeech` alone."""
    graph = _Graph(rng, None)
    graph.convolutions("X", "Y")
    return graph.network(_front_input(), {"Y": [CHUNK, "batch", 32 * BINS // 4]})


def _front_input() -> Shapes:
    return {"X": ["batch", 1, _SUBSAMPLING * CHUNK + _CONTEXT, BINS]}


class _Graph:
    def __init__(self, rng: np.random.Generator, size: float | None) -> None:
        self._rng, self._size = rng, size
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, NDArray[Any]] = {}

    def network(self, inputs: Shapes, outputs: Shapes) -> Network:
        given, made = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
            for values in (inputs, outputs)
        )
        initializers = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        graph = helper.make_graph(self._nodes, "network", given, made, initializers)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("deepthin", 1)]
        model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        weights = sum(array.nbytes for array in self._constants.values() if array.dtype == np.float32)
        return Network(model.SerializeToString(), weights)

    def linear(self, x: str, inputs: int, outputs: int, activation: str, name: str = "") -> str:
        bias = self._constant("bias", np.zeros(outputs, np.float32))
        if self._size is not None:
            fixed: dict[str, Any] = {"domain": "deepthin", "Q": inputs, "R": outputs, "activation": activation}
            return self._node("DeepThinMatMul", [x, *self._factors(inputs, outputs), bias], name, **fixed)
        weight = self._constant("weight", self._random(inputs, outputs))
        if not activation:
            return self._node("Add", [self._node("MatMul", [x, weight]), bias], name)
        y = self._node("Add", [self._node("MatMul", [x, weight]), bias])
        return self._node({"sigmoid": "Sigmoid", "relu": "Relu"}[activation], [y], name)

    def gru(self, x: str, inputs: int, hidden: int, before: str, after: str) -> str:
        fixed: dict[str, Any] = {"hidden_size": hidden, "linear_before_reset": 1}
        bias = np.zeros(6 * hidden, np.float32)
        if self._size is not None:
            factors = [*self._factors(inputs, 3 * hidden), *self._factors(hidden, 3 * hidden)]
            given = [x, *factors, self._constant("bias", bias), before]
            y = f"gru{len(self._nodes)}"
            self._nodes.append(
                helper.make_node("DeepThinGRU", given, [y, after], domain="deepthin", input_size=inputs, **fixed)
            )
            return y
        weights = [self._constant("weight", self._random(rows, 3 * hidden).T[None]) for rows in (inputs, hidden)]
        given = [x, *weights, self._constant("bias", bias[None]), "", self._node("Unsqueeze", [before, self._axis(0)])]
        y = f"gru{len(self._nodes)}"
        self._nodes.append(helper.make_node("GRU", given, [y, f"{y}.last"], **fixed))
        self._node("Squeeze", [f"{y}.last", self._axis(0)], after)
        return self._node("Squeeze", [y, self._axis(1)])

    def convolutions(self, x: str, name: str = "") -> str:
        """Both, each with its activation, and their channels and frequencies side by side: [frames, batch, values]."""
        shapes = [((32, 1, 9, 7), (_SUBSAMPLING, 2), (0, 3, 0, 3)), ((32, 32, 5, 5), (1, 2), (0, 2, 0, 2))]
        for shape, strides, pads in shapes:
            kernel = self._constant("kernel", self._rng.standard_normal(shape, np.float32))
            y = self._node("Conv", [x, kernel], strides=strides, pads=pads)
            limits = [self._constant("limit", np.array(limit, np.float32)) for limit in (0, 20)]
            x = self._node("Clip", [y, *limits])
        turned = self._node("Transpose", [x], perm=[2, 0, 1, 3])
        return self._node("Reshape", [turned, self._constant("shape", np.array([0, 0, -1]))], name)

    def _node(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        made = name or f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [made], **attributes))
        return made

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        name = f"{name}{len(self._constants)}"
        self._constants[name] = np.ascontiguousarray(values).reshape(values.shape)
        return name

    def _axis(self, axis: int) -> str:
        return self._constant("axis", np.array([axis]))

    def _random(self, inputs: int, outputs: int) -> NDArray[np.float32]:
        return self._rng.standard_normal((inputs, outputs), np.float32) * np.float32(inputs**-0.5)

    def _factors(self, inputs: int, outputs: int) -> list[str]:
        geometry = solve(inputs, outputs, max(self._size or 1.0, smallest_size(inputs, outputs)))
        scale = np.float32((inputs * geometry.r) ** -0.5)
        return [
            self._constant("Xf", self._rng.standard_normal((geometry.m, geometry.r), np.float32) * scale),
            self._constant("Wf", self._rng.standard_normal((geometry.r, geometry.n), np.float32)),
        ]
