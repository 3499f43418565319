"""deepthin-codebook: shared values in the long factor, looked up when a session is created."""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.compression import deepthin_codebook
from models.compression.base import StreamError
from models.compression.coding import encode_arrays
from models.compression.deepthin import DeepThin
from models.compression.deepthin_codebook import DeepThinCodebook
from tests.compression.contract import check_stream, correlated, weight

METHOD = DeepThinCodebook()


@given(Q=st.integers(1, 70), R=st.integers(1, 40), size=st.floats(0.005, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_length_of_rows_shares_no_factor_with_the_inputs(Q: int, R: int, size: float) -> None:
    assume(size >= METHOD.sizes(Q, R)[0])
    assert gcd(int(METHOD.plan(Q, R, size).geometry["n"]), Q) == 1


def test_shared_values_beat_fp32_factors_at_the_same_size() -> None:
    W, deepthin = weight(200, 160), DeepThin()
    for size in (0.03, 0.08):
        plain = deepthin.compress(W, deepthin.plan(200, 160, size))
        shared = METHOD.compress(W, METHOD.plan(200, 160, size))
        assert shared.relative_error < plain.relative_error


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
    check_stream(METHOD, priced)


def test_the_memory_is_that_of_fp32_factors() -> None:
    compressed = METHOD.compress(weight(71, 33), METHOD.plan(71, 33, 0.08))
    geometry = compressed.plan.geometry
    assert (
        METHOD.resident_bytes(compressed) >= 4 * (int(geometry["m"]) + int(geometry["n"])) > compressed.plan.disk_bytes
    )


def test_hostile_streams_are_refused() -> None:
    plan = METHOD.plan(40, 30, 0.1)
    compressed = METHOD.compress(weight(40, 30), plan)
    parts = {
        **compressed.arrays,
        "indices": np.full(int(plan.geometry["m"]), 1 << int(plan.geometry["bits"]), np.uint8),
    }
    with pytest.raises(StreamError, match="names no value"):
        METHOD.decode(encode_arrays(parts), plan)
