"""HashedNets: means of the values that share a place, and least squares for the layer's output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import Calibration
from models.compression.hashed import Hashed
from ops.hashing import hashed_entries
from tests.compression import contract
from tests.compression.matrices import correlated, weight

METHOD = Hashed()


@settings(max_examples=40, deadline=None)
@given(Q=st.integers(1, 40), R=st.integers(1, 40), wish=st.floats(1e-4, 2.0))
def test_plan(Q: int, R: int, wish: float) -> None:
    contract.check_plan(METHOD, Q, R, wish)


def test_the_whole_range_can_be_had() -> None:
    contract.check_reaches(METHOD, 64, 96, within=0.35)


def test_errors_fall_as_sizes_grow() -> None:
    contract.check_errors(METHOD, 48, 40, (0.02, 0.1, 0.3, 1.0))


def test_calibration_pays() -> None:
    aware, plain = contract.gain(METHOD, weight(60, 50), 0.1, correlated(60)[1])
    assert aware < 0.95 * plain


@settings(max_examples=20, deadline=None)
@given(Q=st.integers(2, 24), R=st.integers(2, 24), size=st.floats(0.02, 1.0), seed=st.integers(0, 99))
def test_calibration_never_costs(Q: int, R: int, size: float, seed: int) -> None:
    inputs = correlated(Q, 3, seed)[1]
    aware, plain = contract.gain(METHOD, weight(Q, R, seed), max(size, 1 / (Q * R)), inputs)
    assert aware <= plain


def test_the_values_are_the_least_squares_solution() -> None:
    """Against the normal equations of all the shared values written out."""
    Q, R = 12, 9
    W, inputs = weight(Q, R), correlated(Q)[1]
    compressed = METHOD.compress(W, METHOD.plan(Q, R, 0.2), inputs)
    K = int(compressed.plan.geometry["K"])
    index, sign = hashed_entries(Q, R, K, int(compressed.plan.geometry["seed"]))
    design = np.zeros((Q * R, K))
    design[np.arange(Q * R), index.T.ravel()] = sign.T.ravel()
    metric = np.kron(np.eye(R), inputs.damped())
    normal, wanted = design.T @ metric @ design, design.T @ metric @ W.T.ravel()
    energy = W.T.ravel() @ metric @ W.T.ravel()

    def error(values: np.ndarray) -> float:
        return float(energy - 2 * values @ wanted + values @ normal @ values)

    best = error(np.linalg.lstsq(normal, wanted, rcond=None)[0])
    assert best < error(compressed.arrays["values"].astype(np.float64)) < best * (1 + 1e-3)


@pytest.mark.parametrize(("Q", "R", "size"), [(40, 33, 0.2), (7, 90, 0.01), (1, 5, 1.0)])
def test_stream_and_operator(Q: int, R: int, size: float) -> None:
    compressed = METHOD.compress(weight(Q, R), METHOD.plan(Q, R, size), correlated(Q)[1])
    contract.check_stream(METHOD, compressed)
    contract.check_export(METHOD, compressed)


def test_nothing_stays_nothing() -> None:
    zero = np.zeros((20, 30), np.float32)
    for inputs in (None, correlated(20)[1]):
        assert not METHOD.decompress(METHOD.compress(zero, METHOD.plan(20, 30, 0.2), inputs)).any()
    silent = Calibration(np.zeros((20, 20)), 5)
    assert METHOD.compress(weight(20, 30), METHOD.plan(20, 30, 0.2), silent).output_error == 0.0
