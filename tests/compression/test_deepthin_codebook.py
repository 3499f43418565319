"""deepthin-codebook: shared values in the long factor, looked up when a session is created."""

from __future__ import annotations

import itertools
from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression import deepthin_codebook
from models.compression.base import SizeError, StreamError, output_error
from models.compression.coding import encode_arrays
from models.compression.deepthin import DeepThin
from models.compression.deepthin_codebook import DeepThinCodebook
from tests.compression.matrices import (
    check_round_trip,
    correlated,
    exported,
    plan_or_none,
    run,
    stored_constants,
    weight,
)

METHOD = DeepThinCodebook()


@given(Q=st.integers(1, 70), R=st.integers(1, 40), size=st.floats(0.005, 1.0), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_what_is_stored_is_what_was_planned(Q: int, R: int, size: float, seed: int) -> None:
    plan = plan_or_none(METHOD, Q, R, size)
    if plan is None:
        with pytest.raises(SizeError, match=f"{METHOD.sizes(Q, R)[0]:.6g}"):
            METHOD.plan(Q, R, size)
        return
    assert gcd(int(plan.geometry["n"]), Q) == 1
    check_round_trip(METHOD, METHOD.compress(weight(Q, R, seed), plan))


@pytest.mark.parametrize("rank", [1, 2])
def test_calibration_makes_the_output_better(rank: int) -> None:
    _, calibration = correlated(96)
    W, plan = weight(96, 64), METHOD.plan(96, 64, 0.06, rank=rank)
    assert plan.geometry["r"] == rank
    plain, aware = METHOD.compress(W, plan), METHOD.compress(W, plan, calibration)
    check_round_trip(METHOD, aware)
    assert aware.output_error is not None
    assert aware.output_error < 0.9 * output_error(W, METHOD.decompress(plain), calibration)


def test_shared_values_beat_fp32_factors_at_the_same_size() -> None:
    W, deepthin = weight(200, 160), DeepThin()
    for size in (0.03, 0.08):
        plain = deepthin.compress(W, deepthin.plan(200, 160, size))
        shared = METHOD.compress(W, METHOD.plan(200, 160, size))
        assert shared.relative_error < plain.relative_error


def test_more_bytes_lose_less() -> None:
    _, calibration = correlated(96)
    W, sizes = weight(96, 64), (0.02, 0.05, 0.2)
    aware = [METHOD.compress(W, METHOD.plan(96, 64, size), calibration).output_error or 0.0 for size in sizes]
    plain = [METHOD.compress(W, METHOD.plan(96, 64, size)).relative_error for size in sizes]
    for errors in (aware, plain):
        assert all(after < before for before, after in itertools.pairwise(errors))


def test_rounding_to_the_output_beats_rounding_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    _, calibration = correlated(96)
    W, plan = weight(96, 64), METHOD.plan(96, 64, 0.02)
    assert int(plan.geometry["bits"]) <= 3
    together = METHOD.compress(W, plan, calibration).output_error or 0.0
    monkeypatch.setattr(deepthin_codebook, "_round", lambda columns, book, Xf: book.indices(Xf))
    assert together < 0.9 * (METHOD.compress(W, plan, calibration).output_error or 0.0)


def test_a_price_on_bits_shortens_the_stream_and_not_the_file() -> None:
    W, plan = weight(200, 160), METHOD.plan(200, 160, 0.05)
    free, priced = METHOD.compress(W, plan), DeepThinCodebook(0.02).compress(W, plan)
    assert len(METHOD.encode(priced)) < 0.95 * len(METHOD.encode(free)) < plan.disk_bytes
    check_round_trip(METHOD, priced)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
def test_the_exported_layer_stores_the_planned_bytes_and_computes_the_product(rank: int, biased: bool) -> None:
    """It runs at all only if ONNX Runtime hands the operator constants: the look-up is computed at load."""
    x, calibration = correlated(71, rows=9)
    bias = np.linspace(-1, 1, 33, dtype=np.float32) if biased else None
    compressed = METHOD.compress(weight(71, 33), METHOD.plan(71, 33, 0.08, rank=rank), calibration)
    model = exported(METHOD, compressed, 2, bias)
    assert stored_constants(model) == compressed.plan.disk_bytes + (bias.nbytes if biased else 0)
    wanted = x @ METHOD.decompress(compressed) + (0 if bias is None else bias)
    assert np.allclose(run(METHOD, compressed, x, bias), wanted, atol=1e-4)


def test_the_memory_is_that_of_fp32_factors() -> None:
    compressed = METHOD.compress(weight(71, 33), METHOD.plan(71, 33, 0.08))
    geometry = compressed.plan.geometry
    assert (
        METHOD.resident_bytes(compressed) >= 4 * (int(geometry["m"]) + int(geometry["n"])) > compressed.plan.disk_bytes
    )


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
        METHOD.decode(stream, METHOD.plan(40, 31, 0.1))
    parts = {
        **compressed.arrays,
        "indices": np.full(int(plan.geometry["m"]), 1 << int(plan.geometry["bits"]), np.uint8),
    }
    with pytest.raises(StreamError, match="names no value"):
        METHOD.decode(encode_arrays(parts), plan)
