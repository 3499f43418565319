"""The hash and the permutation, against plain integer arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.hashing import fmix32, hashed_entries, shuffled_positions

SEEDS = st.integers(-(2**63), 2**63 - 1)
LOW = 2**32 - 1


def mixed(h: int) -> int:
    h ^= h >> 16
    h = h * 0x85EBCA6B & LOW
    h ^= h >> 13
    h = h * 0xC2B2AE35 & LOW
    return h ^ h >> 16


def position(k: int, total: int, seed: int) -> int:
    bits = 2
    while 1 << bits < total:
        bits += 2
    half = bits // 2
    mask = (1 << half) - 1
    while True:
        left, right = k >> half, k & mask
        for number in range(4):
            key = (seed * 0x9E3779B1 & LOW) ^ (number * 0x7F4A7C15 & LOW)
            left, right = right, left ^ (mixed(right ^ key) & mask)
        k = left << half | right
        if k < total:
            return k


def test_the_finaliser_is_murmurs() -> None:
    # Published values of MurmurHash3_x86_32 of an empty key, whose hash is the finaliser of its seed.
    assert fmix32(np.array([0, 1, LOW])).tolist() == [0, 0x514E28B7, 0x81F16F39]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 1000), SEEDS)
def test_entries_follow_the_definition(Q: int, R: int, K: int, seed: int) -> None:
    index, sign = hashed_entries(Q, R, K, seed)
    assert index.dtype == np.int32
    assert sign.dtype == np.float32
    for q in range(Q):
        for c in range(R):
            h = mixed((c * Q + q) ^ (seed * 0x9E3779B1 & LOW))
            assert index[q, c] == h * K >> 32
            assert sign[q, c] == (-1 if mixed(h ^ 0x85EBCA6B) & 1 else 1)


def test_entries_spread_over_the_values_and_the_signs() -> None:
    index, sign = hashed_entries(256, 256, 64, 7)
    counts = np.bincount(index.reshape(-1), minlength=64)
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()
    assert abs(sign.mean()) < 0.02
    assert not np.array_equal(index, hashed_entries(256, 256, 64, 8)[0])


@given(st.integers(1, 20), st.integers(1, 20), SEEDS)
def test_positions_follow_the_definition(Q: int, R: int, seed: int) -> None:
    positions = shuffled_positions(Q, R, seed)
    assert positions.dtype == np.int64
    assert positions.tolist() == [position(k, Q * R, seed) for k in range(Q * R)]
    assert np.array_equal(np.sort(positions), np.arange(Q * R))


def test_positions_keep_no_neighbours_together() -> None:
    positions = shuffled_positions(100, 100, 1)
    assert np.mean(np.abs(np.diff(positions)) == 1) < 0.01
    assert abs(np.corrcoef(np.arange(10000), positions)[0, 1]) < 0.05


def test_sizes_out_of_range_are_refused() -> None:
    for Q, R in ((0, 1), (1, 0), (1 << 17, 1 << 16)):
        with pytest.raises(ValueError, match="entries"):
            shuffled_positions(Q, R, 1)
        with pytest.raises(ValueError, match="entries"):
            hashed_entries(Q, R, 1, 1)
    with pytest.raises(ValueError, match="K must be"):
        hashed_entries(2, 2, 0, 1)
