"""What every compression method must do, as checks that the tests of each method call."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from models.compression.base import Calibration, Compressed, Matrix, Method, SizeError, StreamError, output_error
from models.compression.builder import OnnxBuilder
from ops.library import session
from tests.compression.matrices import correlated, run, weight


def check_plan(method: Method, Q: int, R: int, wish: float, *, rank: int = 1) -> None:
    """The plan is the largest that fits, or the error names the range."""
    smallest, largest = method.sizes(Q, R)
    assert 0 < smallest <= largest
    try:
        plan = method.plan(Q, R, wish, rank=rank)
    except SizeError as error:
        assert rank > 1 or wish < smallest * (1 + 1e-9)
        assert f"{wish:.6g}" in str(error)
        if rank == 1:
            assert f"{smallest:.6g} to {largest:.6g}" in str(error)
        return
    assert (plan.method, plan.Q, plan.R) == (method.name, Q, R)
    assert plan.relative_size <= wish * (1 + 1e-9)
    if rank == 1:
        assert smallest * (1 - 1e-9) <= plan.relative_size <= largest * (1 + 1e-9)
    stored = method.compress(weight(Q, R), plan)
    assert sum(array.nbytes for array in stored.arrays.values()) == plan.disk_bytes


def check_reaches(method: Method, Q: int, R: int, *, within: float, start: float = 1.5) -> None:
    """Both ends can be had, nothing below; wishes from `start` times the smallest on are met to a share of `within`."""
    smallest, largest = method.sizes(Q, R)
    assert method.plan(Q, R, smallest).relative_size == pytest.approx(smallest)
    assert method.plan(Q, R, 2 * largest).relative_size == pytest.approx(largest)
    with pytest.raises(SizeError, match="reaches"):
        method.plan(Q, R, smallest * 0.99)
    for wish in np.geomspace(smallest * start, largest, 7):
        assert method.plan(Q, R, wish).relative_size > wish * (1 - within)


def check_errors(method: Method, Q: int, R: int, sizes: tuple[float, ...], *, slack: float = 0.0) -> None:
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
    assert all(later <= earlier + slack for earlier, later in pairwise(relative)), relative
    assert all(later <= earlier + slack for earlier, later in pairwise(output)), output
    assert relative[-1] < relative[0]


def gain(method: Method, W: Matrix, size: float, inputs: Calibration, *, rank: int = 1) -> tuple[float, float]:
    """Output error with calibration and without."""
    plan = method.plan(*W.shape, size, rank=rank)
    aware = method.compress(W, plan, inputs)
    assert aware.output_error is not None
    return aware.output_error, output_error(W, method.decompress(method.compress(W, plan)), inputs)


def check_stream(method: Method, compressed: Compressed) -> None:
    """A stream gives the arrays back bit for bit; one that is cut, changed or another weight's is refused."""
    stream = method.encode(compressed)
    arrays = method.decode(stream, compressed.plan)
    assert list(arrays) == list(compressed.arrays)
    for name, array in compressed.arrays.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
    changed = bytearray(stream)
    changed[len(stream) // 2] ^= 0x10
    for bad in (b"", stream[: len(stream) // 2], stream[:-1], bytes(changed), stream + b"\0"):
        with pytest.raises(StreamError):
            method.decode(bad, compressed.plan)


def run_graph(builder: OnnxBuilder, y: str, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The value `y`, of as many axes as the input `x`, of what a builder holds."""
    shapes = [[f"{name}{axis}" for axis in range(x.ndim)] for name in "xy"]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, shapes[1])]
    graph = helper.make_graph(builder.nodes, "layer", inputs, outputs, builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (result,) = session(model.SerializeToString()).run(None, {"x": x})
    return result


def check_export(method: Method, compressed: Compressed, *, initializers: bool = True) -> None:
    """The exported layer is the product with the decompressed weight, for any batch, with and without bias.

    With `initializers` the graph holds the stored arrays as they are, and no other floats but single ones.
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
    builder = OnnxBuilder(["x"])
    method.export(compressed, builder, "layer.weight", "x", None)
    held = {tensor.name: tensor for tensor in builder.initializers}
    if initializers:
        for name, array in compressed.arrays.items():
            assert held[f"layer.weight.{name}"].raw_data == np.ascontiguousarray(array).tobytes()
        floats = [t for t in builder.initializers if t.data_type == TensorProto.FLOAT and np.prod(t.dims) > 1]
        assert len(floats) == sum(array.dtype == np.float32 and array.size > 1 for array in compressed.arrays.values())
