"""DeepThinLSTM against ONNX Runtime's own LSTM on the reconstructed dense weights, and against the reference."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops import graph
from ops.layout import solve
from ops.library import session
from ops.reference import deepthin_lstm
from tests.ops.operators import REFUSED, Float, factors, lstm_model
from tests.ops.recurrent import dense_layer, layer_factors, normal


@pytest.mark.parametrize("batch", [1, 3, 9, 20])
@pytest.mark.parametrize("threads", [1, 2])
def test_matches_onnx_runtimes_own(isa: str, batch: int, threads: int) -> None:
    rng = np.random.default_rng(batch)
    inputs, H, steps = 40, 48, 30
    all_factors = layer_factors("LSTM", rng, inputs, H, 17)
    B, h, c, x = normal(rng, 8 * H), normal(rng, batch, H), normal(rng, batch, H), normal(rng, steps, batch, inputs)
    ready = session(lstm_model(all_factors, inputs, H, B, True), threads=threads)
    found = ready.run(None, {"X": x, "initial_h": h, "initial_c": c})
    for value, expected in zip(found, dense_layer("LSTM", x, all_factors, B, [h, c]), strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=2e-5)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    inputs=st.integers(1, 40),
    H=st.integers(1, 40),
    n=st.integers(1, 60),
    r=st.integers(1, 3),
    steps=st.integers(0, 12),
    batch=st.integers(0, 19),
    order=st.sampled_from(["iofc", "ifco"]),
    layout=st.integers(0, 1),
    bias=st.booleans(),
    state=st.booleans(),
    threads=st.sampled_from([1, 2]),
)
def test_any_shape(
    isa: str,
    inputs: int,
    H: int,
    n: int,
    r: int,
    steps: int,
    batch: int,
    order: Literal["iofc", "ifco"],
    layout: int,
    bias: bool,
    state: bool,
    threads: int,
) -> None:
    rng = np.random.default_rng(inputs + 41 * H)
    all_factors = layer_factors("LSTM", rng, inputs, H, n, r)
    B = normal(rng, 8 * H) if bias else None
    h, c = (normal(rng, batch, H), normal(rng, batch, H)) if state else (None, None)
    x = normal(rng, steps, batch, inputs)
    model = lstm_model(all_factors, inputs, H, B, state, gate_order=order, layout=layout, input_size=inputs)
    feed = {"X": x.swapaxes(0, 1) if layout else x} | ({"initial_h": h, "initial_c": c} if state else {})
    Y, *last = session(model, threads=threads).run(None, feed)
    expected, *final = deepthin_lstm(x, *all_factors, H, B, h, c, gate_order=order)
    np.testing.assert_allclose(Y.swapaxes(0, 1) if layout else Y, expected, rtol=0, atol=2e-5)
    for found, wanted in zip(last, final, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("batch", [1, 12])
def test_stopping_and_going_on_gives_the_same(isa: str, batch: int) -> None:
    """Over more steps than those whose projections are made at a time, at a real size."""
    rng = np.random.default_rng(9)
    inputs, H, steps = 96, 128, 300
    shapes = ((inputs, 4 * H), (H, 4 * H))
    all_factors = tuple(part for Q, R in shapes for part in factors(rng, Q, R, solve(Q, R, 0.05).n, 1))
    B, x = normal(rng, 8 * H), normal(rng, steps, batch, inputs)
    ready = session(lstm_model(all_factors, inputs, H, B, True), threads=2)

    def run(part: Float, state: Float, cell: Float) -> list[Float]:
        found: list[Float] = ready.run(None, {"X": part, "initial_h": state, "initial_c": cell})
        return found

    zero = np.zeros((batch, H), np.float32)
    whole, *last = run(x, zero, zero)
    np.testing.assert_allclose(whole, deepthin_lstm(x, *all_factors, H, B)[0], rtol=0, atol=3e-5)
    first, *middle = run(x[:101], *[zero, zero])
    second, *final = run(x[101:], *middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-5)
    for found, wanted in zip(final, last, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_outputs_that_nobody_wants_are_left_out() -> None:
    rng = np.random.default_rng(3)
    names = ["Xf_w", "Wf_w", "Xf_r", "Wf_r"]
    values = layer_factors("LSTM", rng, 8, 6, 5)
    node = graph.node("DeepThinLSTM", ["X", *names], ["Y"], "deepthin", hidden_size=6, input_size=8)
    constants = [graph.tensor(name, array) for name, array in zip(names, values, strict=True)]
    model = graph.model([node], [graph.value("X", ["a", "b", 8])], [graph.value("Y", ["a", "b", 6])], constants)
    x = normal(rng, 4, 2, 8)
    found = session(model).run(None, {"X": x})[0]
    np.testing.assert_allclose(found, deepthin_lstm(x, *values, 6)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_order": "ifgo"}, "gate_order must be iofc or ifco, not ifgo"),
        ({"input_size": 0}, "input_size must be between 1"),
        ({"input_size": 9}, "cannot fill a 9 x 24 matrix"),
    ],
)
def test_wrong_attributes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(REFUSED, match=message):
        session(lstm_model(layer_factors("LSTM", np.random.default_rng(2), 8, 6, 5), 8, 6, None, False, **options))


def test_hostile_inputs_are_refused() -> None:
    rng = np.random.default_rng(2)
    all_factors = layer_factors("LSTM", rng, 8, 6, 5)
    ready = session(lstm_model(all_factors, 8, 6, None, True, input_size=8))
    x, state, wrong = np.zeros((3, 2, 8), np.float32), np.zeros((2, 6), np.float32), np.zeros((3, 6), np.float32)
    assert ready.run(None, {"X": x, "initial_h": state, "initial_c": state})[2].shape == (2, 6)
    with pytest.raises(REFUSED, match="initial_h must be batch x hidden_size"):
        ready.run(None, {"X": x, "initial_h": wrong, "initial_c": state})
    with pytest.raises(REFUSED, match="initial_c must be batch x hidden_size"):
        ready.run(None, {"X": x, "initial_h": state, "initial_c": wrong})
    short_bias = session(lstm_model(all_factors, 8, 6, np.zeros(24, np.float32), False, input_size=8))
    with pytest.raises(REFUSED, match="B must have 8 \\* hidden_size = 48"):
        short_bias.run(None, {"X": x})
    flat = [np.zeros(4, np.float32), *all_factors[1:]]
    with pytest.raises(REFUSED, match="Xf_w and Wf_w must be m x r and r x n"):
        session(lstm_model(flat, 8, 6, None, False))
    unequal = [np.zeros((99, 2), np.float32), *all_factors[1:]]
    with pytest.raises(REFUSED, match="Xf_w and Wf_w must be m x r and r x n"):
        session(lstm_model(unequal, 8, 6, None, False, input_size=8))
    with pytest.raises(REFUSED, match="cannot fill a 6 x 24 matrix"):
        session(lstm_model([*all_factors[:2], np.zeros((1, 1), np.float32), all_factors[3]], 8, 6, None, False))
    with pytest.raises(REFUSED, match="hidden_size must be between 1"):
        session(lstm_model(all_factors, 8, 0, None, False))


def test_values_without_a_bound_stay_where_they_are(isa: str) -> None:
    """An input that is no number reaches the rows that it is part of, and no other."""
    rng = np.random.default_rng(4)
    all_factors = layer_factors("LSTM", rng, 8, 6, 5)
    x = normal(rng, 5, 20, 8)
    x[2, 3], x[1, 7], x[0, 11] = np.nan, np.inf, 3e38
    Y = session(lstm_model(all_factors, 8, 6, None, False, input_size=8)).run(None, {"X": x})[0]
    clean = np.setdiff1d(np.arange(20), [3, 7, 11])
    expected = deepthin_lstm(x[:, clean], *all_factors, 6)[0]
    np.testing.assert_allclose(Y[:, clean], expected, rtol=0, atol=1e-5)
