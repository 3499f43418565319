"""Weights, inputs and one-layer models for the tests of the compression methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from models.compression.base import Calibration, Compressed, Matrix, Method, Plan
from models.compression.builder import OnnxBuilder
from ops.library import session

Array = npt.NDArray[Any]


def weight(Q: int, R: int, seed: int = 0) -> Matrix:
    """A weight [Q, R] with a few strong directions and heavy tails, as trained ones have."""
    rng = np.random.default_rng(seed)
    low = rng.standard_normal((Q, 3)) @ rng.standard_normal((3, R))
    return (0.1 * low + 0.1 * rng.standard_t(4, (Q, R))).astype(np.float32)


def correlated(Q: int, rows: int = 400, seed: int = 1) -> tuple[Array, Calibration]:
    """Inputs [rows, Q] whose neighbours are alike and whose strength differs widely, and their moments."""
    rng = np.random.default_rng(seed)
    mixing = 0.9 ** np.abs(np.subtract.outer(np.arange(Q), np.arange(Q))) * np.geomspace(1.0, 0.05, Q)
    x = (rng.standard_normal((rows, Q)) @ mixing + 0.3).astype(np.float32)
    moment = x.astype(np.float64).T @ x / rows
    return x, Calibration(moment, rows)


def run(method: Method, compressed: Compressed, x: Array, bias: Array | None = None) -> Array:
    """The exported layer's output for `x` [..., Q], computed by ONNX Runtime."""
    return session(exported(method, compressed, x.ndim, bias).SerializeToString()).run(None, {"x": x})[0]


def exported(method: Method, compressed: Compressed, axes: int = 2, bias: Array | None = None) -> onnx.ModelProto:
    """A model of the one layer."""
    builder = OnnxBuilder(("x",))
    named = None if bias is None else builder.constant("bias", bias)
    y = method.export(compressed, builder, "layer.weight", "x", named)
    lead = [f"axis{index}" for index in range(axes - 1)]
    plan = compressed.plan
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*lead, plan.Q])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, [*lead, plan.R])]
    graph = helper.make_graph(builder.nodes, "layer", inputs, outputs, builder.initializers)
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted(builder.domains - {""})]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def check_round_trip(method: Method, compressed: Compressed) -> None:
    """What was stored is what was planned, and comes back from a stream bit for bit."""
    plan = compressed.plan
    assert sum(array.nbytes for array in compressed.arrays.values()) == plan.disk_bytes
    decoded = method.decode(method.encode(compressed), plan)
    assert list(decoded) == list(compressed.arrays)
    for name, array in compressed.arrays.items():
        assert decoded[name].dtype == array.dtype and decoded[name].shape == array.shape, name
        assert decoded[name].tobytes() == array.tobytes(), name
    again = method.decompress(Compressed(plan, decoded, 0.0))
    assert again.shape == (plan.Q, plan.R) and again.dtype == np.float32
    assert np.array_equal(again, method.decompress(compressed))


def stored_constants(model: onnx.ModelProto) -> int:
    """Bytes of the model's initialisers."""
    return sum(len(initializer.raw_data) for initializer in model.graph.initializer)


def plan_or_none(method: Method, Q: int, R: int, size: float) -> Plan | None:
    """The plan for a wish, if it is within what `Method.sizes` says; checks that it keeps to it."""
    smallest, largest = method.sizes(Q, R)
    if size < smallest:
        return None
    plan = method.plan(Q, R, size)
    assert (plan.Q, plan.R, plan.method) == (Q, R, method.name)
    assert plan.relative_size <= min(size, largest) * (1 + 1e-9)
    return plan
