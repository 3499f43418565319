"""Rank factorisation: optimal, with and without calibration, as matrix products and as convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from models.compression.base import Calibration, CompressionError, ConvMethod, output_error
from models.compression.builder import OnnxBuilder
from models.compression.low_rank import LowRank
from tests.compression import contract
from tests.compression.contract import correlated, weight

METHOD = LowRank()


def test_the_whole_range_can_be_had() -> None:
    contract.check_reaches(METHOD, 64, 96, within=0.4)


def test_the_full_rank_loses_nothing() -> None:
    full = METHOD.compress(weight(48, 40), METHOD.plan(48, 40, 2.0))
    assert full.relative_error < 1e-5


@pytest.mark.parametrize(("Q", "R"), [(30, 20), (20, 30)])
def test_optimal_without_calibration(Q: int, R: int) -> None:
    """Eckart and Young: what is lost is the singular values behind the first K."""
    W = weight(Q, R)
    compressed = METHOD.compress(W, METHOD.plan(Q, R, 0.4))
    values = np.linalg.svd(W.astype(np.float64), compute_uv=False)
    lost = np.sqrt(np.sum(values[int(compressed.plan.geometry["K"]) :] ** 2) / np.sum(values**2))
    assert compressed.relative_error == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize(("Q", "R"), [(30, 20), (20, 30)])
def test_optimal_with_calibration(Q: int, R: int) -> None:
    """The same of the whitened weight, for the damped moment."""
    W, inputs = weight(Q, R), correlated(Q)[1]
    compressed = METHOD.compress(W, METHOD.plan(Q, R, 0.4), inputs)
    damped = inputs.damped()
    values = np.linalg.svd(np.linalg.cholesky(damped).T @ W, compute_uv=False)
    lost = np.sqrt(np.sum(values[int(compressed.plan.geometry["K"]) :] ** 2) / np.sum(values**2))
    reached = output_error(W, METHOD.decompress(compressed), Calibration(damped, inputs.rows))
    assert reached == pytest.approx(lost, rel=1e-4)


CONVOLUTIONS = [
    ((6, 4, 3, 3), {}),
    ((6, 4, 5, 2), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((8, 3, 3, 5), {"dilations": [2, 1], "pads": [2, 2, 2, 2]}),
    ((6, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
]


@pytest.mark.parametrize(("shape", "attributes"), [*CONVOLUTIONS, ((6, 4, 7), {"strides": [2]})])
def test_convolution(shape: tuple[int, ...], attributes: dict[str, object]) -> None:
    rng = np.random.default_rng(2)
    assert isinstance(METHOD, ConvMethod)
    kernel, bias = rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape[0]).astype(np.float32)
    compressed = METHOD.compress(kernel.reshape(shape[0], -1).T.copy(), METHOD.plan_conv(shape, 0.8))
    dense = METHOD.decompress(compressed).T.reshape(shape)
    x = rng.standard_normal((2, shape[1], 17, 19)[: len(shape)]).astype(np.float32)
    fixed = {**attributes, "kernel_shape": list(shape[2:])}
    thin, plain = OnnxBuilder(["x", "y"]), OnnxBuilder(["x", "y"])
    y = METHOD.export_conv(compressed, thin, "kernel", "x", thin.constant("bias", bias), fixed)
    expected = plain.node("Conv", ["x", plain.constant("kernel", dense), plain.constant("bias", bias)], **fixed)
    result = contract.run_graph(thin, y, x)
    np.testing.assert_allclose(result, contract.run_graph(plain, expected, x), atol=2e-5)
    stored = {tensor.name: tensor.raw_data for tensor in thin.initializers}
    for name, array in compressed.arrays.items():
        assert stored[f"kernel.{name}"] == array.tobytes()


def test_a_convolution_that_cannot_be_is_refused() -> None:
    compressed = METHOD.compress(weight(18, 6), METHOD.plan(18, 6, 0.5))
    for fixed, match in (({"kernel_shape": [3, 3], "group": 2}, "groups"), ({"kernel_shape": [4, 4]}, "no kernel")):
        with pytest.raises(CompressionError, match=match):
            METHOD.export_conv(compressed, OnnxBuilder(), "kernel", "x", None, fixed)
