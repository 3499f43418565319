"""What every compression method must do, as checks that the tests of the methods call, and weights to try them on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from models.compression.base import Calibration, Compressed, Matrix, Method, SizeError, StreamError, output_error
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
    return run_graph(*exported(method, compressed, bias), x)


def exported(method: Method, compressed: Compressed, bias: Array | None = None) -> tuple[OnnxBuilder, str]:
    """A graph of the one layer with the input `x`, and the name of its output."""
    builder = OnnxBuilder(["x"])
    named = None if bias is None else builder.constant("bias", bias)
    return builder, method.export(compressed, builder, "layer.weight", "x", named)


def run_graph(builder: OnnxBuilder, y: str, x: Array) -> Array:
    """The value `y`, of as many axes as the input `x`, of what a builder holds."""
    shapes = [[f"{name}{axis}" for axis in range(x.ndim)] for name in "xy"]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, shapes[1])]
    graph = helper.make_graph(builder.nodes, "layer", inputs, outputs, builder.initializers)
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted(builder.domains - {""})]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    (result,) = session(model.SerializeToString()).run(None, {"x": x})
    return result


def stored_constants(builder: OnnxBuilder) -> int:
    """Bytes of a graph's initialisers."""
    return sum(len(initializer.raw_data) for initializer in builder.initializers)


def check_plan(method: Method, Q: int, R: int, wish: float, *, rank: int = 1, seed: int = 0) -> Compressed | None:
    """The plan fits the wish and is kept to, or the error names the range; what was compressed, if there was a plan."""
    smallest, largest = method.sizes(Q, R)
    assert 0 < smallest <= largest
    try:
        plan = method.plan(Q, R, wish, rank=rank)
    except SizeError as error:
        assert rank > 1 or wish < smallest * (1 + 1e-9)
        if rank == 1:
            assert f"{wish:.6g}" in str(error)
            assert f"{smallest:.6g} to {largest:.6g}" in str(error)
        return None
    assert (plan.method, plan.Q, plan.R) == (method.name, Q, R)
    assert plan.relative_size <= wish * (1 + 1e-9)
    if rank == 1:
        assert smallest * (1 - 1e-9) <= plan.relative_size <= largest * (1 + 1e-9)
    compressed = method.compress(weight(Q, R, seed), plan)
    check_stream(method, compressed)
    return compressed


def check_reaches(method: Method, Q: int, R: int, *, within: float, start: float = 1.5) -> None:
    """Both ends can be had, nothing below; wishes from `start` times the smallest on are met to a share of `within`."""
    smallest, largest = method.sizes(Q, R)
    assert method.plan(Q, R, smallest).relative_size == pytest.approx(smallest)
    assert method.plan(Q, R, 2 * largest).relative_size == pytest.approx(largest)
    with pytest.raises(SizeError, match="reaches"):
        method.plan(Q, R, smallest * 0.99)
    for wish in np.geomspace(smallest * start, largest, 7):
        assert method.plan(Q, R, wish).relative_size > wish * (1 - within)


def check_errors(method: Method, Q: int, R: int, sizes: tuple[float, ...]) -> None:
    """The reported errors are those of the decompressed weight, and fall as the sizes grow."""
    W, inputs = weight(Q, R), correlated(Q)[1]
    relative, output = [], []
    for size in sizes:
        plain = method.compress(W, method.plan(Q, R, size))
        V = method.decompress(plain)
        assert V.shape == W.shape
        assert V.dtype == np.float32
        assert plain.output_error is None
        assert plain.relative_error == pytest.approx(np.linalg.norm(W - V) / np.linalg.norm(W), rel=1e-4, abs=1e-6)
        relative.append(plain.relative_error)
        aware = method.compress(W, plain.plan, inputs)
        root = np.linalg.cholesky(inputs.moment)
        expected = np.linalg.norm(root.T @ (W - method.decompress(aware))) / np.linalg.norm(root.T @ W)
        assert aware.output_error == pytest.approx(expected, rel=1e-3, abs=1e-6)
        output.append(aware.output_error)
    assert all(later < earlier for earlier, later in pairwise(relative)), relative
    assert all(later < earlier for earlier, later in pairwise(output)), output


def gain(method: Method, W: Matrix, size: float, inputs: Calibration, *, rank: int = 1) -> tuple[float, float]:
    """Output error with calibration and without."""
    plan = method.plan(*W.shape, size, rank=rank)
    aware = method.compress(W, plan, inputs)
    check_stream(method, aware)
    assert aware.output_error is not None
    return aware.output_error, output_error(W, method.decompress(method.compress(W, plan)), inputs)


def check_stream(method: Method, compressed: Compressed) -> None:
    """What was stored is what was planned, and a stream gives it back bit for bit; a cut or changed one is refused."""
    plan = compressed.plan
    assert sum(array.nbytes for array in compressed.arrays.values()) == plan.disk_bytes
    stream = method.encode(compressed)
    arrays = method.decode(stream, plan)
    assert list(arrays) == list(compressed.arrays)
    for name, array in compressed.arrays.items():
        assert arrays[name].dtype == array.dtype, name
        assert arrays[name].shape == array.shape, name
        assert arrays[name].tobytes() == array.tobytes(), name
    again = method.decompress(Compressed(plan, arrays, 0.0))
    assert again.shape == (plan.Q, plan.R)
    assert again.dtype == np.float32
    assert np.array_equal(again, method.decompress(compressed))
    changed = bytearray(stream)
    changed[len(stream) // 2] ^= 0x10
    for bad in (b"", stream[: len(stream) // 2], stream[:-1], bytes(changed), stream + b"\0"):
        with pytest.raises(StreamError):
            method.decode(bad, plan)


def check_nothing(method: Method, Q: int, R: int, size: float) -> None:
    """A weight of zeros stays one, whatever the inputs are, and inputs of zeros have no output to be wrong."""
    zero, plan = np.zeros((Q, R), np.float32), method.plan(Q, R, size)
    for inputs in (None, correlated(Q)[1]):
        compressed = method.compress(zero, plan, inputs)
        assert not method.decompress(compressed).any()
        assert compressed.relative_error == 0.0
    assert method.compress(weight(Q, R), plan, Calibration(np.zeros((Q, Q)), 5)).output_error == 0.0


def check_export(method: Method, compressed: Compressed, *, helpers: int = 0) -> None:
    """The exported layer is the product with the decompressed weight, for any batch, with and without bias.

    It runs on the stored arrays as they are and on no other constants but single floats and at most `helpers` bytes.
    An operator that takes constants alone shows by running that what is made of them is made with the session.
    """
    rng = np.random.default_rng(5)
    plan = compressed.plan
    W = method.decompress(compressed).astype(np.float64)
    bias = rng.standard_normal(plan.R).astype(np.float32)
    for shape in ((1,), (5,), (2, 3)):
        x = rng.standard_normal((*shape, plan.Q)).astype(np.float32)
        for given in (None, bias):
            y = run(method, compressed, x, given)
            expected = x.astype(np.float64) @ W + (0 if given is None else given)
            scale = np.abs(x).astype(np.float64) @ np.abs(W) + np.abs(bias) + 1e-3
            assert y.shape == expected.shape
            assert np.abs((y - expected) / scale).max() < 2e-5
    builder, _ = exported(method, compressed)
    assert 0 <= stored_constants(builder) - plan.disk_bytes <= helpers
    held = {tensor.name: tensor for tensor in builder.initializers}
    for name, array in compressed.arrays.items():
        assert held[f"layer.weight.{name}"].raw_data == np.ascontiguousarray(array).tobytes()
    floats = [t for t in builder.initializers if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 1]
    assert len(floats) == sum(array.dtype == np.float32 and array.size > 1 for array in compressed.arrays.values())
