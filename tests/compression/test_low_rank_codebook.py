"""low-rank-codebook: shared values in both factors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import SizeError, StreamError, output_error
from models.compression.coding import encode_arrays
from models.compression.low_rank import LowRank
from models.compression.low_rank_codebook import LowRankCodebook
from tests.compression.matrices import (
    check_round_trip,
    correlated,
    exported,
    plan_or_none,
    run,
    stored_constants,
    weight,
)

METHOD = LowRankCodebook()


@given(Q=st.integers(1, 70), R=st.integers(1, 40), size=st.floats(0.005, 1.0), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_what_is_stored_is_what_was_planned(Q: int, R: int, size: float, seed: int) -> None:
    plan = plan_or_none(METHOD, Q, R, size)
    if plan is None:
        with pytest.raises(SizeError, match=f"{METHOD.sizes(Q, R)[0]:.6g}"):
            METHOD.plan(Q, R, size)
        return
    check_round_trip(METHOD, METHOD.compress(weight(Q, R, seed), plan))


def test_as_much_rank_as_the_size_allows() -> None:
    for size in (0.01, 0.03, 0.1):
        plan = METHOD.plan(300, 200, size)
        K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])
        one_more = (300 * bits + 7) // 8 + 200 * ((K + 1) * bits + 7) // 8 - 200 * (K * bits + 7) // 8 + 4
        assert plan.disk_bytes + one_more + 200 > size * 4 * 300 * 200


@pytest.mark.parametrize("size", [0.05, 0.15])
def test_calibration_makes_the_output_better(size: float) -> None:
    _, calibration = correlated(96)
    W, plan = weight(96, 64), METHOD.plan(96, 64, size)
    plain, aware = METHOD.compress(W, plan), METHOD.compress(W, plan, calibration)
    check_round_trip(METHOD, aware)
    assert aware.output_error is not None
    assert aware.output_error < 0.7 * output_error(W, METHOD.decompress(plain), calibration)


def test_shared_values_beat_fewer_ranks_at_the_same_size() -> None:
    W, low_rank = weight(200, 160), LowRank()
    for size in (0.05, 0.2):
        rank = low_rank.compress(W, low_rank.plan(200, 160, size))
        shared = METHOD.compress(W, METHOD.plan(200, 160, size))
        assert shared.relative_error < rank.relative_error


def test_more_bytes_lose_less() -> None:
    _, calibration = correlated(64)
    W, sizes = weight(64, 48), (0.04, 0.08, 0.16, 0.3)
    aware = [METHOD.compress(W, METHOD.plan(64, 48, size), calibration).output_error or 0.0 for size in sizes]
    plain = [METHOD.compress(W, METHOD.plan(64, 48, size)).relative_error for size in sizes]
    for errors in (aware, plain):
        assert all(after < before for before, after in itertools.pairwise(errors))


def test_a_price_on_bits_shortens_the_stream_and_not_the_file() -> None:
    W, plan = weight(200, 160), METHOD.plan(200, 160, 0.15)
    free, priced = METHOD.compress(W, plan), LowRankCodebook(0.01).compress(W, plan)
    assert len(METHOD.encode(priced)) < 0.97 * len(METHOD.encode(free)) < plan.disk_bytes
    check_round_trip(METHOD, priced)


@pytest.mark.parametrize("biased", [False, True])
def test_the_exported_layer_stores_the_planned_bytes_and_computes_the_product(biased: bool) -> None:
    x, calibration = correlated(70, rows=9)
    bias = np.linspace(-1, 1, 33, dtype=np.float32) if biased else None
    compressed = METHOD.compress(weight(70, 33), METHOD.plan(70, 33, 0.1), calibration)
    model = exported(METHOD, compressed, 2, bias)
    assert stored_constants(model) == compressed.plan.disk_bytes + (bias.nbytes if biased else 0)
    wanted = x @ METHOD.decompress(compressed) + (0 if bias is None else bias)
    assert np.allclose(run(METHOD, compressed, x, bias), wanted, atol=1e-4)


def test_a_zero_weight_stays_zero() -> None:
    compressed = METHOD.compress(np.zeros((40, 30), np.float32), METHOD.plan(40, 30, 0.1), correlated(40)[1])
    assert not METHOD.decompress(compressed).any()


def test_hostile_streams_are_refused() -> None:
    plan = METHOD.plan(40, 30, 0.1)
    compressed = METHOD.compress(weight(40, 30), plan)
    stream = METHOD.encode(compressed)
    with pytest.raises(StreamError):
        METHOD.decode(stream[:-1], plan)
    with pytest.raises(StreamError):
        METHOD.decode(stream, METHOD.plan(30, 40, 0.1))
    K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])
    parts = {
        **compressed.arrays,
        "A.indices": np.full((40, K), 1 << bits, np.uint8),
        "B.indices": np.zeros((K, 30), np.uint8),
    }
    with pytest.raises(StreamError, match="names no value"):
        METHOD.decode(encode_arrays(parts), plan)
