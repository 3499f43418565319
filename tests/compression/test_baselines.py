"""dense, int8 and int4: what ONNX Runtime itself offers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import CompressionError, Method, SizeError, StreamError, output_error
from models.compression.compact import INT2, INT3, INT4, Compact
from models.compression.dense import Dense
from models.compression.int4 import Int4
from models.compression.int8 import Int8
from models.compression.registry import METHODS, method
from tests.compression.contract import check_stream, correlated, exported, run, stored_constants, weight

BASELINES: tuple[Method, ...] = (Dense(), Int8(), Int4(), INT4, INT3, INT2)
EACH = pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)


@EACH
@given(Q=st.integers(1, 70), R=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_what_is_stored_is_what_was_planned(baseline: Method, Q: int, R: int, seed: int) -> None:
    smallest, largest = baseline.sizes(Q, R)
    assert smallest == largest
    plan = baseline.plan(Q, R, smallest)
    assert plan.relative_size == pytest.approx(smallest) and plan == baseline.plan(Q, R, 2.0 * smallest)
    check_stream(baseline, baseline.compress(weight(Q, R, seed), plan))


@EACH
def test_a_smaller_size_names_the_reachable_one(baseline: Method) -> None:
    smallest, _ = baseline.sizes(64, 32)
    with pytest.raises(SizeError, match=f"{smallest:.6g}"):
        baseline.plan(64, 32, smallest * 0.99)


@EACH
def test_a_stream_of_another_shape_is_refused(baseline: Method) -> None:
    stream = baseline.encode(baseline.compress(weight(64, 32), baseline.plan(64, 32, 1.0)))
    for wrong in (baseline.plan(32, 64, 1.0), baseline.plan(64, 33, 1.0)):
        with pytest.raises(StreamError):
            baseline.decode(stream, wrong)
    with pytest.raises(StreamError):
        baseline.decode(stream[:-1], baseline.plan(64, 32, 1.0))


@EACH
@pytest.mark.parametrize("biased", [False, True])
def test_the_exported_layer_stores_the_planned_bytes_and_computes_the_product(baseline: Method, biased: bool) -> None:
    Q, R = 70, 33
    x, calibration = correlated(Q, rows=40)
    bias = np.linspace(-1, 1, R, dtype=np.float32) if biased else None
    compressed = baseline.compress(weight(Q, R), baseline.plan(Q, R, 1.0), calibration)
    builder, _ = exported(baseline, compressed, bias)
    # Eight bytes are the shape of scales that are multiplied out; what makes 3 bits 4 has some numbers of its own.
    more = stored_constants(builder) - compressed.plan.disk_bytes - (bias.nbytes if biased else 0)
    assert more == (124 if baseline is INT3 else 8 if isinstance(baseline, Compact) else 0)
    x = x.reshape(4, 10, Q)
    found = run(baseline, compressed, x, bias)
    wanted = x @ baseline.decompress(compressed) + (0 if bias is None else bias)
    # Inputs are rounded to 8 bits over their range (int8) or that of 32 of them (int4): half a step each, at random.
    blocks = 2 * np.abs(x).max() / 255
    step = {"dense": 0.0, "int8": np.ptp(x) / 255}.get(baseline.name, blocks)
    noise = step / np.sqrt(12) * np.linalg.norm(baseline.decompress(compressed), axis=0).max()
    assert np.abs(found - wanted).max() < 1e-4 + 6 * noise


def test_int8_weights_do_not_saturate() -> None:
    """Products of the largest inputs and weights, all of one sign, are the case where 16-bit sums overflow."""
    x, W = np.ones((2, 64), np.float32), np.ones((64, 8), np.float32)
    baseline = Int8()
    found = run(baseline, baseline.compress(W, baseline.plan(64, 8, 1.0)), x)
    assert np.allclose(found, 64.0, rtol=1e-3)


@pytest.mark.parametrize("baseline", BASELINES[1:], ids=lambda baseline: baseline.name)
def test_calibration_makes_the_output_better(baseline: Method) -> None:
    _, calibration = correlated(96)
    W, plan = weight(96, 64), baseline.plan(96, 64, 1.0)
    plain, aware = baseline.compress(W, plan), baseline.compress(W, plan, calibration)
    assert plain.output_error is None and aware.output_error is not None
    assert aware.output_error < 0.8 * output_error(W, baseline.decompress(plain), calibration)
    assert plain.relative_error < aware.relative_error


def test_more_bits_lose_less() -> None:
    W = weight(96, 64)
    errors = [baseline.compress(W, baseline.plan(96, 64, 1.0)).relative_error for baseline in BASELINES]
    assert errors[0] == 0 < errors[1] < 0.02 < errors[2] < errors[3] < 0.15 < errors[4] < 0.3 < errors[5] < 0.6


@EACH
def test_a_zero_weight_stays_zero(baseline: Method) -> None:
    W = np.zeros((40, 5), np.float32)
    compressed = baseline.compress(W, baseline.plan(40, 5, 1.0), correlated(40)[1])
    assert np.array_equal(baseline.decompress(compressed), W)
    assert compressed.relative_error == 0 and compressed.output_error == 0


def test_methods_are_found_by_name() -> None:
    assert all(method(name).name == name for name in METHODS)
    for known in METHODS.values():
        assert known.summary and known.source
    with pytest.raises(CompressionError, match=r"'zip'.*dense"):
        method("zip")
