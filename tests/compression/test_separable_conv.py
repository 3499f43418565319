"""Separable convolutions: the best rank-K kernel, and the two nodes against ONNX Runtime's own Conv."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import CompressionError, ConvMethod, Method, SizeError, StreamError, output_error
from models.compression.builder import OnnxBuilder
from models.compression.separable_conv import SeparableConv
from tests.compression import contract
from tests.compression.contract import check_stream, correlated

METHOD = SeparableConv()
shapes = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 6), st.integers(1, 6))


def kernel_matrix(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    kernel = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.ascontiguousarray(kernel.reshape(shape[0], -1).T)


def test_it_is_a_method_for_convolutions() -> None:
    method: Method = METHOD
    assert isinstance(method, ConvMethod)


@settings(max_examples=50, deadline=None)
@given(shape=shapes, wish=st.floats(0.01, 2.0))
def test_plan(shape: tuple[int, int, int, int], wish: float) -> None:
    smallest, largest = METHOD.conv_sizes(shape)
    try:
        plan = METHOD.plan_conv(shape, wish)
    except SizeError as error:
        assert wish < smallest
        assert f"{smallest:.6g} to {largest:.6g}" in str(error)
        return
    assert plan.relative_size <= min(wish, largest) * (1 + 1e-9)
    assert plan.relative_size + smallest > min(wish, largest)
    check_stream(METHOD, METHOD.compress(kernel_matrix(shape), plan))


def test_the_kernel_is_the_best_of_its_rank() -> None:
    """What is lost is the singular values of the (C·d) x (d·N) matrix behind the first K."""
    shape = (7, 4, 3, 5)
    W = kernel_matrix(shape)
    compressed = METHOD.compress(W, METHOD.plan_conv(shape, 0.5))
    kernel = W.T.reshape(shape).astype(np.float64)
    values = np.linalg.svd(kernel.transpose(1, 2, 3, 0).reshape(4 * 3, 5 * 7), compute_uv=False)
    lost = np.sqrt(np.sum(values[int(compressed.plan.geometry["K"]) :] ** 2) / np.sum(values**2))
    assert 0.2 < compressed.relative_error == pytest.approx(lost, rel=1e-4)
    exact = METHOD.compress(W, METHOD.plan_conv(shape, 5.0))
    assert exact.relative_error < 1e-5


def test_errors_fall_as_sizes_grow_and_calibration_pays() -> None:
    shape = (12, 5, 4, 3)
    W, inputs = kernel_matrix(shape), correlated(60)[1]
    plain, aware = [], []
    for size in (0.15, 0.3, 0.6):
        plan = METHOD.plan_conv(shape, size)
        one = METHOD.compress(W, plan)
        plain.append(output_error(W, METHOD.decompress(one), inputs))
        aware.append(METHOD.compress(W, plan, inputs).output_error or 0.0)
    assert aware[0] > aware[1] > aware[2]
    assert all(with_data < 0.95 * without for with_data, without in zip(aware, plain, strict=True))


@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=st.integers(0, 99))
def test_calibration_never_costs(shape: tuple[int, int, int, int], seed: int) -> None:
    W = kernel_matrix(shape, seed)
    plan = METHOD.plan_conv(shape, 2.5)
    inputs = correlated(len(W), 3, seed)[1]
    plain = METHOD.compress(W, plan)
    aware = METHOD.compress(W, plan, inputs)
    assert aware.output_error is not None
    assert aware.output_error <= output_error(W, METHOD.decompress(plain), inputs)


CONVOLUTIONS: list[tuple[tuple[int, int, int, int], dict[str, Any]]] = [
    ((6, 4, 3, 3), {}),
    ((6, 4, 5, 2), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((8, 3, 3, 5), {"dilations": [2, 1], "pads": [2, 2, 2, 2]}),
    ((8, 3, 2, 3), {"dilations": [1, 3], "strides": [3, 1], "pads": [0, 3, 1, 0]}),
    ((6, 4, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    ((6, 4, 4, 3), {"auto_pad": b"SAME_LOWER"}),
    ((5, 1, 1, 7), {"auto_pad": "VALID"}),
    ((5, 2, 7, 1), {"group": 1}),
]


@pytest.mark.parametrize(("shape", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("biased", [False, True])
def test_the_nodes_are_the_convolution(
    shape: tuple[int, int, int, int], attributes: dict[str, Any], biased: bool
) -> None:
    rng = np.random.default_rng(1)
    compressed = METHOD.compress(kernel_matrix(shape), METHOD.plan_conv(shape, 1.1))
    dense = np.ascontiguousarray(METHOD.decompress(compressed).T.reshape(shape))
    x = rng.standard_normal((2, shape[1], 17, 19)).astype(np.float32)
    fixed = {**attributes, "kernel_shape": list(shape[2:])}
    bias = rng.standard_normal(shape[0]).astype(np.float32)
    thin, plain = OnnxBuilder(["x"]), OnnxBuilder(["x"])
    y = METHOD.export_conv(compressed, thin, "kernel", "x", thin.constant("bias", bias) if biased else None, fixed)
    added = [plain.constant("bias", bias)] if biased else []
    expected = plain.node("Conv", ["x", plain.constant("kernel", dense), *added], **fixed)
    found = contract.run_graph(thin, y, x)
    np.testing.assert_allclose(found, contract.run_graph(plain, expected, x), atol=1e-4)
    stored = {tensor.name: tensor.raw_data for tensor in thin.initializers}
    for name, array in compressed.arrays.items():
        assert stored[f"kernel.{name}"] == array.tobytes()


def test_what_is_no_such_convolution_is_refused() -> None:
    with pytest.raises(CompressionError, match="no 18 x 6 matrix"):
        METHOD.plan(18, 6, 0.5)
    for shape in ((6, 4), (6, 4, 3), (6, 4, 3, 3, 3)):
        with pytest.raises(CompressionError, match="four axes"):
            METHOD.plan_conv(shape, 0.5)
    compressed = METHOD.compress(kernel_matrix((6, 4, 3, 3)), METHOD.plan_conv((6, 4, 3, 3), 0.9))
    with pytest.raises(CompressionError, match="groups"):
        METHOD.export_conv(compressed, OnnxBuilder(), "kernel", "x", None, {"group": 2, "kernel_shape": [3, 3]})
    with pytest.raises(CompressionError, match="3 x 3, not"):
        METHOD.export_conv(compressed, OnnxBuilder(), "kernel", "x", None, {"kernel_shape": [3, 1]})
    with pytest.raises(CompressionError, match="not for a matrix product"):
        METHOD.export(compressed, OnnxBuilder(), "kernel", "x", None)
    with pytest.raises(StreamError):
        METHOD.decode(METHOD.encode(compressed)[:-1], compressed.plan)
