"""The double-precision reference, against computations that do not use it."""

import numpy as np
import pytest

from ops.reference import ACTIVATIONS, activate, deepthin_gru, deepthin_matmul

rng = np.random.default_rng(3)


def test_matmul_is_a_product_with_the_permuted_factors() -> None:
    Q, R, n, r = 7, 5, 4, 2
    m = -(-Q * R // n)
    Xf, Wf, x = rng.standard_normal((m, r)), rng.standard_normal((r, n)), rng.standard_normal((2, 3, Q))
    bias = rng.standard_normal(R)
    expected = np.zeros((2, 3, R)) + bias
    for c in range(R):
        for q in range(Q):
            k = c * Q + q
            expected[..., c] += x[..., q] * (Xf[k // n] @ Wf[:, k % n])
    np.testing.assert_allclose(deepthin_matmul(x, Xf, Wf, R, bias), expected, rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    y = np.array([-30.0, -1.0, 0.0, 1.0, 30.0])
    expected = {
        "": y,
        "relu": [0, 0, 0, 1, 30],
        "clipped_relu": [0, 0, 0, 1, 20],
        "sigmoid": 1 / (1 + np.exp(-y)),
        "tanh": (np.exp(2 * y) - 1) / (np.exp(2 * y) + 1),
    }[activation]
    np.testing.assert_allclose(activate(y, activation), expected, rtol=1e-9, atol=1e-12)


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        activate(np.zeros(1), "gelu")


def test_gate_orders_are_permutations_of_each_other() -> None:
    H, n = 3, 5
    Xf_w, Xf_r = rng.standard_normal((-(-2 * 3 * H // n), 1)), rng.standard_normal((-(-H * 3 * H // n), 1))
    # Constant Wf and block-constant gates would hide a mistake: rows of the factors differ.
    Wf = rng.standard_normal((1, n))
    x = rng.standard_normal((4, 2, 2))
    zrh, last = deepthin_gru(x, Xf_w, Wf, Xf_r, Wf, H)
    rzh, _ = deepthin_gru(x, Xf_w, Wf, Xf_r, Wf, H, gate_order="rzh")
    assert zrh.shape == (4, 2, H)
    np.testing.assert_array_equal(zrh[-1], last)
    assert not np.allclose(zrh, rzh)
