"""pruned-csr: what to keep, and how it is stored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import SizeError, StreamError, output_error
from models.compression.coding import encode_arrays
from models.compression.pruned_csr import PrunedCsr
from models.compression.pruning import largest, least_squares, prune
from tests.compression.matrices import (
    check_round_trip,
    correlated,
    exported,
    plan_or_none,
    run,
    stored_constants,
    weight,
)

CSR = PrunedCsr()


@given(Q=st.integers(1, 60), R=st.integers(1, 40), size=st.floats(0.001, 2.0), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_what_is_stored_is_what_was_planned(Q: int, R: int, size: float, seed: int) -> None:
    plan = plan_or_none(CSR, Q, R, size)
    if plan is None:
        with pytest.raises(SizeError, match=f"{CSR.sizes(Q, R)[0]:.6g}"):
            CSR.plan(Q, R, size)
        return
    entries = int(plan.geometry["entries"])
    assert entries == Q * R or plan.disk_bytes + 6 > size * 4 * Q * R * (1 - 1e-9)
    compressed = CSR.compress(weight(Q, R, seed), plan)
    check_round_trip(CSR, compressed)
    assert np.count_nonzero(CSR.decompress(compressed)) == entries


def test_without_calibration_the_largest_stay_as_they_are() -> None:
    W = weight(50, 30)
    compressed = CSR.compress(W, CSR.plan(50, 30, 0.3))
    V = CSR.decompress(compressed)
    assert np.array_equal(V[V != 0], W[V != 0])
    assert np.abs(W[V == 0]).max() <= np.abs(V[V != 0]).min()


@pytest.mark.parametrize("size", [0.05, 0.3, 1.2])
def test_calibration_makes_the_output_better(size: float) -> None:
    _, calibration = correlated(96)
    W, plan = weight(96, 64), CSR.plan(96, 64, size)
    plain, aware = CSR.compress(W, plan), CSR.compress(W, plan, calibration)
    check_round_trip(CSR, aware)
    assert aware.output_error is not None
    assert aware.output_error < 0.7 * output_error(W, CSR.decompress(plain), calibration)


def test_more_bytes_lose_less() -> None:
    _, calibration = correlated(64)
    W = weight(64, 48)
    sizes = (0.04, 0.1, 0.3, 0.8, 1.4)
    results = [CSR.compress(W, CSR.plan(64, 48, size), calibration) for size in sizes]
    errors = [result.output_error or 0.0 for result in results]
    assert all(after < before for before, after in itertools.pairwise(errors))
    plain = [CSR.compress(W, CSR.plan(64, 48, size)).relative_error for size in sizes]
    assert all(after < before for before, after in itertools.pairwise(plain))


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


@pytest.mark.parametrize("biased", [False, True])
def test_the_exported_layer_stores_the_planned_bytes_and_computes_the_product(biased: bool) -> None:
    x, calibration = correlated(70, rows=9)
    bias = np.linspace(-1, 1, 33, dtype=np.float32) if biased else None
    compressed = CSR.compress(weight(70, 33), CSR.plan(70, 33, 0.2), calibration)
    model = exported(CSR, compressed, 2, bias)
    assert stored_constants(model) == compressed.plan.disk_bytes + (bias.nbytes if biased else 0)
    wanted = x @ CSR.decompress(compressed) + (0 if bias is None else bias)
    assert np.allclose(run(CSR, compressed, x, bias), wanted, atol=1e-4)


def test_wide_inputs_take_wider_indices() -> None:
    Q = (1 << 16) + 5
    W = np.zeros((Q, 2), np.float32)
    W[-1], W[7, 1] = 1.0, 0.5
    plan = CSR.plan(Q, 2, (3 * 8 + 12) / (8 * Q))
    assert plan.geometry["entries"] == 3
    compressed = CSR.compress(W, plan)
    check_round_trip(CSR, compressed)
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
    with pytest.raises(StreamError):
        CSR.decode(CSR.encode(CSR.compress(weight(20, 10), plan)), CSR.plan(10, 20, 0.25))


def test_resident_bytes_are_the_stored_ones() -> None:
    compressed = CSR.compress(weight(20, 10), CSR.plan(20, 10, 0.5))
    assert CSR.resident_bytes(compressed) == compressed.plan.disk_bytes
