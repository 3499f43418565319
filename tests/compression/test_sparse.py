"""pruned-csr: what to keep, and how it is stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.compression.base import StreamError
from models.compression.coding import encode_arrays
from models.compression.pruned_csr import PrunedCsr
from models.compression.pruning import largest, least_squares, prune
from tests.compression.contract import check_stream, correlated, run, weight

CSR = PrunedCsr()


@given(Q=st.integers(1, 60), R=st.integers(1, 40), size=st.floats(0.001, 2.0), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_as_many_entries_as_the_size_allows(Q: int, R: int, size: float, seed: int) -> None:
    assume(size >= CSR.sizes(Q, R)[0])
    plan = CSR.plan(Q, R, size)
    entries = int(plan.geometry["entries"])
    assert entries == Q * R or plan.disk_bytes + 6 > size * 4 * Q * R * (1 - 1e-9)
    assert np.count_nonzero(CSR.decompress(CSR.compress(weight(Q, R, seed), plan))) == entries


def test_without_calibration_the_largest_stay_as_they_are() -> None:
    W = weight(50, 30)
    compressed = CSR.compress(W, CSR.plan(50, 30, 0.3))
    V = CSR.decompress(compressed)
    assert np.array_equal(V[V != 0], W[V != 0])
    assert np.abs(W[V == 0]).max() <= np.abs(V[V != 0]).min()


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_the_values_are_those_of_least_squares(density: float) -> None:
    """No step along any kept entry makes the error smaller, whichever of the two systems was solved."""
    _, calibration = correlated(40)
    moment, W = calibration.damped(), weight(40, 20).astype(np.float64)
    kept = np.random.default_rng(3).random(W.shape) < density
    values = least_squares(W, kept, moment)
    slopes = moment @ (values - W)
    assert np.abs(slopes[kept]).max() < 1e-9 * np.abs(moment @ W).max()
    assert not values[~kept].any()


def test_pruning_keeps_a_weight_that_is_sparse_already() -> None:
    rng = np.random.default_rng(5)
    W = np.where(rng.random((48, 32)) < 0.1, rng.standard_normal((48, 32)), 0).astype(np.float32)
    count = int(np.count_nonzero(W))
    values, _ = prune(W, lambda importance: largest(importance, count), correlated(48)[1].damped())
    assert np.allclose(values, W, atol=1e-4)


def test_wide_inputs_take_wider_indices() -> None:
    Q = (1 << 16) + 5
    W = np.zeros((Q, 2), np.float32)
    W[-1], W[7, 1] = 1.0, 0.5
    plan = CSR.plan(Q, 2, (3 * 8 + 12) / (8 * Q))
    assert plan.geometry["entries"] == 3
    compressed = CSR.compress(W, plan)
    check_stream(CSR, compressed)
    assert np.array_equal(CSR.decompress(compressed), W)
    x = np.random.default_rng(0).standard_normal((2, Q)).astype(np.float32)
    assert np.allclose(run(CSR, compressed, x), x @ W, atol=1e-5)


def test_hostile_streams_are_refused() -> None:
    plan = CSR.plan(20, 10, 0.2)
    arrays = CSR.compress(weight(20, 10), plan).arrays
    entries = int(plan.geometry["entries"])
    good = {
        "values": arrays["values"],
        "gaps": np.zeros(entries, np.uint16),
        "counts": np.array([entries] + [0] * 9, np.int32),
    }
    CSR.decode(encode_arrays(good), plan)
    outside = {**good, "gaps": np.full(entries, 9, np.uint16)}
    uneven = {**good, "counts": np.array([entries + 1] + [0] * 9, np.int32)}
    negative = {**good, "counts": np.array([entries + 1, -1] + [0] * 8, np.int32)}
    fewer = {**good, "values": arrays["values"][1:]}
    for bad in (outside, uneven, negative, fewer):
        with pytest.raises(StreamError):
            CSR.decode(encode_arrays(bad), plan)


def test_resident_bytes_are_the_stored_ones() -> None:
    compressed = CSR.compress(weight(20, 10), CSR.plan(20, 10, 0.5))
    assert CSR.resident_bytes(compressed) == compressed.plan.disk_bytes
