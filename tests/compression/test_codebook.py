"""Shared values: k-means, entropy-constrained clusters, rounding to the layer's output, and packed rows."""

from __future__ import annotations

import itertools

import kmeans1d
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import output_error
from models.compression.codebook import fit, pack_rows, quantise, row_bytes, unpack_rows
from ops.weights import codebook_weight
from tests.compression.contract import correlated, weight


def entropy(indices: npt.NDArray[np.uint8]) -> float:
    """Bits per index."""
    share = np.bincount(indices.ravel()) / indices.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def loss(values: npt.NDArray[np.float64], count: int, **options: object) -> float:
    book = fit(values, count, **options)  # type: ignore[arg-type]
    return float(np.square(values - book.levels[book.indices(values)]).sum())


def test_few_values_are_clustered_optimally() -> None:
    values = np.random.default_rng(0).standard_normal(500)
    clusters, centres = kmeans1d.cluster(values, 7)
    best = float(np.square(values - np.asarray(centres)[clusters]).sum())
    assert loss(values, 7) == pytest.approx(best, rel=1e-5)


def test_many_values_are_clustered_nearly_optimally() -> None:
    """The mean squared error of a normal distribution's best 16 values is .009497 (Max, 1960)."""
    values = np.random.default_rng(0).standard_normal(200_000)
    assert loss(values, 16) / values.size == pytest.approx(0.0095, rel=0.02)


def test_weights_pull_values_towards_what_matters() -> None:
    values = np.concatenate([np.linspace(0, 1, 50), np.linspace(5, 6, 50)])
    weights = np.repeat([1.0, 1e-6], 50)
    levels = fit(values, 4, weights).levels
    assert (levels < 1.5).sum() == 3
    assert np.allclose(fit(values, 4, np.full(100, 3.0)).levels, fit(values, 4).levels)


def test_repeated_values_stand_for_themselves() -> None:
    values = np.repeat([3.0, -1.0, 0.25], [900, 5000, 4])
    book = fit(values, 16)
    assert book.levels.size == 16
    assert np.array_equal(book.levels[book.indices(values)], values)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(5), np.array([2.0])])
def test_degenerate_values(values: npt.NDArray[np.float64]) -> None:
    for lagrangian in (0.0, 0.1):
        book = fit(values, 4, lagrangian=lagrangian)
        assert book.levels.shape == (4,) and np.isfinite(book.levels).all()
        assert np.array_equal(book.levels[book.indices(values)], values)


def test_a_price_on_bits_buys_fewer_of_them() -> None:
    values = np.random.default_rng(0).standard_normal(20_000)
    found = []
    for lagrangian in (0.0, 0.003, 0.01, 0.03, 0.1):
        book = fit(values, 32, lagrangian=lagrangian)
        indices = book.indices(values)
        found.append((entropy(indices), float(np.square(values - book.levels[indices]).mean())))
    assert all(after[0] < before[0] and after[1] > before[1] for before, after in itertools.pairwise(found))
    # At the bits that are left, plain k-means with as many levels as that entropy affords is further off.
    bits, error = found[3]
    plain = fit(values, int(2**bits))
    indices = plain.indices(values)
    assert entropy(indices) > bits - 0.35
    assert error < float(np.square(values - plain.levels[indices]).mean())


@given(Q=st.integers(1, 20), R=st.integers(1, 20), bits=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_rows_are_packed_as_the_operator_reads_them(Q: int, R: int, bits: int, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, 1 << bits, (Q, R)).astype(np.uint8)
    packed = pack_rows(indices, bits)
    assert packed.size == row_bytes(Q, R, bits)
    assert np.array_equal(unpack_rows(packed, Q, R, bits), indices)
    levels = np.arange(1 << bits, dtype=np.float32)
    assert np.array_equal(codebook_weight(Q, R, levels, packed, bits), indices)


@pytest.mark.parametrize("count", [4, 16])
def test_rounding_to_the_output_is_better_there(count: int) -> None:
    _, calibration = correlated(96)
    W = weight(96, 64)
    errors = []
    for moment, sweeps in ((None, 0), (calibration.damped(), 0), (calibration.damped(), 3)):
        levels, indices = quantise(W, count, moment, sweeps=sweeps)
        errors.append(output_error(W, levels[indices], calibration))
    assert errors[1] < 0.7 * errors[0] and errors[2] < errors[1]


def test_a_mask_reserves_the_first_value() -> None:
    _, calibration = correlated(40)
    W = weight(40, 30)
    kept = np.random.default_rng(0).random(W.shape) < 0.3
    for moment in (None, calibration.damped()):
        levels, indices = quantise(np.where(kept, W, np.float32(0)), 8, moment, kept=kept)
        assert levels.shape == (8,) and levels[0] == 0
        assert np.array_equal(indices == 0, ~kept)
    levels, indices = quantise(W, 8, kept=np.zeros_like(kept))
    assert not levels.any() and not indices.any()
