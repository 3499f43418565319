"""Tiny networks with random weights, written in the ways that exporters write them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]


def random(*shape: int, seed: int = 0, scale: float = 0.3) -> npt.NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def model(
    nodes: Sequence[NodeProto],
    weights: dict[str, Array],
    inputs: dict[str, Sequence[int | str]],
    outputs: dict[str, Sequence[int | str]],
    *,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def feed_forward(*, sizes: Sequence[int] = (24, 48, 40, 10), softmax: bool = True) -> onnx.ModelProto:
    """MatMul, Add and Sigmoid over and over: features [frames, first] to log_probs [frames, last]."""
    nodes, weights, x = [], {}, "features"
    for number, (Q, R) in enumerate(pairwise(sizes)):
        weights[f"layer{number}.weight"] = random(Q, R, seed=number, scale=1.2 / np.sqrt(Q))
        weights[f"layer{number}.bias"] = random(R, seed=100 + number)
        nodes += [
            helper.make_node("MatMul", [x, f"layer{number}.weight"], [f"product{number}"]),
            helper.make_node("Add", [f"product{number}", f"layer{number}.bias"], [f"sum{number}"]),
        ]
        x = f"sum{number}"
        if number < len(sizes) - 2:
            nodes.append(helper.make_node("Sigmoid", [x], [f"hidden{number}"]))
            x = f"hidden{number}"
    nodes.append(helper.make_node("LogSoftmax" if softmax else "Identity", [x], ["log_probs"]))
    return model(nodes, weights, {"features": ["frames", sizes[0]]}, {"log_probs": ["frames", sizes[-1]]})


def gemm(*, trans_a: int = 0, trans_b: int = 1, alpha: float = 1.0, beta: float = 1.0, bias: str = "vector"):
    """One Gemm of 24 inputs and 32 outputs."""
    weights = {"w": random(*((32, 24) if trans_b else (24, 32)))}
    shapes = {"vector": (32,), "row": (1, 32), "scalar": (1,), "column": (5, 1)}
    inputs = ["x", "w"]
    if bias != "none":
        weights["b"] = random(*shapes[bias], seed=1)
        inputs.append("b")
    node = helper.make_node("Gemm", inputs, ["y"], transA=trans_a, transB=trans_b, alpha=alpha, beta=beta)
    return model([node], weights, {"x": [24, 5] if trans_a else [5, 24]}, {"y": [5, 32]})


def conv(axes: int = 2, *, bias: bool = True, **attributes: Any) -> onnx.ModelProto:
    """One Conv of 6 channels to 12."""
    weights = {"kernel": random(12, 6, *((5, 3) if axes == 2 else (5,)))}
    if bias:
        weights["b"] = random(12, seed=1)
    node = helper.make_node("Conv", ["x", "kernel", *(["b"] if bias else [])], ["y"], **attributes)
    shape: list[int | str] = ["batch", 6, *(["height", "width"] if axes == 2 else ["width"])]
    out: list[int | str] = [f"out{axis}" for axis in range(axes + 2)]
    return model([node], weights, {"x": shape}, {"y": out})


def gru(*, reset_after: int = 1, initial: bool = True, bias: bool = True, half: bool = False) -> onnx.ModelProto:
    """A GRU of 12 inputs and 16 units: x [steps, batch, 12], its states and the last one."""
    weights: dict[str, Array] = {"w": random(1, 48, 12), "r": random(1, 48, 16, seed=1)}
    nodes = []
    if half:
        nodes = [helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT) for name in weights]
        weights = {f"{name}.fp16": array.astype(np.float16) for name, array in weights.items()}
    if bias:
        weights["b"] = random(1, 96, seed=2)
    inputs = ["x", "w", "r", "b" if bias else "", "", "state" if initial else ""]
    node = helper.make_node("GRU", inputs, ["y", "last"], hidden_size=16, linear_before_reset=reset_after)
    given: dict[str, Sequence[int | str]] = {"x": ["steps", "batch", 12]}
    if initial:
        given["state"] = [1, "batch", 16]
    return model([*nodes, node], weights, given, {"y": ["steps", 1, "batch", 16], "last": [1, "batch", 16]})


def recurrent(
    op: str,
    *,
    direction: str = "bidirectional",
    initial: bool = True,
    bias: bool = True,
    last_only: bool = False,
    lengths: bool = False,
) -> onnx.ModelProto:
    """A GRU or LSTM of 12 inputs and 16 units: x [steps, batch, 12], all its outputs or the last state alone; with
    lengths, without the last cell."""
    gates, ways = (3 if op == "GRU" else 4), (2 if direction == "bidirectional" else 1)
    weights: dict[str, Array] = {"w": random(ways, gates * 16, 12), "r": random(ways, gates * 16, 16, seed=1)}
    if bias:
        weights["b"] = random(ways, gates * 32, seed=2)
    states = ["state", "cell"][: 1 if op == "GRU" else 2] if initial else []
    outputs = ["y", "last", "last_cell"][: 2 if op == "GRU" or lengths else 3]
    node = helper.make_node(
        op,
        ["x", "w", "r", "b" if bias else "", "lengths" if lengths else "", *states],
        ["", "last"] if last_only else outputs,
        hidden_size=16,
        direction=direction,
        **({"linear_before_reset": 1} if op == "GRU" else {}),
    )
    given: dict[str, Sequence[int | str]] = {"x": ["steps", "batch", 12]}
    given |= {name: [ways, "batch", 16] for name in states}
    shapes: dict[str, Sequence[int | str]] = {"y": ["steps", ways, "batch", 16]}
    shapes |= {name: [ways, "batch", 16] for name in outputs[1:]}
    made = {"last": shapes["last"]} if last_only else {name: shapes[name] for name in outputs}
    network = model([node], weights, given, made)
    if lengths:
        network.graph.input.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
    return network


def shared(*, transposed: bool = False) -> onnx.ModelProto:
    """One square weight used by two layers, behind a Transpose each or as it is."""
    nodes, names = [], ["w", "w"]
    if transposed:
        names = ["t0", "t1"]
        nodes = [helper.make_node("Transpose", ["w"], [name], perm=[1, 0]) for name in names]
    nodes += [
        helper.make_node("MatMul", ["x", names[0]], ["m"]),
        helper.make_node("Relu", ["m"], ["h"]),
        helper.make_node("MatMul", ["h", names[1]], ["y"]),
    ]
    return model(nodes, {"w": random(20, 20)}, {"x": ["n", 20]}, {"y": ["n", 20]})


def shared_recurrent(op: str) -> onnx.ModelProto:
    """Two layers of 16 units, x [steps, batch, 16]: one behind the other, with weights in common."""
    gates = 3 if op == "GRU" else 4
    weights: dict[str, Array] = {"w": random(1, gates * 16, 16), "r": random(1, gates * 16, 16, seed=1)}
    weights |= {name: random(1, gates * 32, seed=seed) for seed, name in enumerate(("b1", "b2"), 2)}
    weights["axis"] = np.array([1], np.int64)
    nodes = [
        helper.make_node(op, ["x", "w", "r", "b1"], ["first"], hidden_size=16),
        helper.make_node("Squeeze", ["first", "axis"], ["h"]),
        helper.make_node(op, ["h", "w", "r", "b2"], ["y"], hidden_size=16),
    ]
    return model(nodes, weights, {"x": ["steps", "batch", 16]}, {"y": ["steps", 1, "batch", 16]})
