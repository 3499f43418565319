"""DeepThinGRU against ONNX Runtime's own GRU on the reconstructed dense weights, and against the reference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.layout import solve
from ops.library import session
from ops.reference import deepthin_gru
from tests.ops.operators import REFUSED, Float, factors, gru_model
from tests.ops.recurrent import dense_layer, layer_factors, normal


@pytest.mark.parametrize("linear_before_reset", [0, 1])
@pytest.mark.parametrize("batch", [1, 3, 9, 20])
@pytest.mark.parametrize("threads", [1, 2])
def test_matches_onnx_runtimes_own(isa: str, linear_before_reset: int, batch: int, threads: int) -> None:
    rng = np.random.default_rng(batch)
    inputs, H, steps = 40, 48, 30
    all_factors = layer_factors("GRU", rng, inputs, H, 17)
    B = normal(rng, 6 * H)
    initial = normal(rng, batch, H)
    x = normal(rng, steps, batch, inputs)
    model = gru_model(all_factors, inputs, H, B, True, linear_before_reset=linear_before_reset)
    Y, Y_h = session(model, threads=threads).run(None, {"X": x, "initial_h": initial})
    expected, last = dense_layer("GRU", x, all_factors, B, [initial], linear_before_reset=linear_before_reset)
    np.testing.assert_allclose(Y, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(Y_h, last, rtol=0, atol=2e-5)


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
    linear=st.booleans(),
    order=st.sampled_from(["zrh", "rzh"]),
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
    linear: bool,
    order: Any,
    layout: int,
    bias: bool,
    state: bool,
    threads: int,
) -> None:
    rng = np.random.default_rng(inputs + 41 * H)
    all_factors = layer_factors("GRU", rng, inputs, H, n, r)
    B = normal(rng, 6 * H) if bias else None
    initial = normal(rng, batch, H) if state else None
    x = normal(rng, steps, batch, inputs)
    model = gru_model(
        all_factors,
        inputs,
        H,
        B,
        state,
        linear_before_reset=int(linear),
        gate_order=order,
        layout=layout,
        input_size=inputs,
    )
    feed = {"X": x.swapaxes(0, 1) if layout else x} | ({} if initial is None else {"initial_h": initial})
    Y, Y_h = session(model, threads=threads).run(None, feed)
    expected, last = deepthin_gru(x, *all_factors, H, B, initial, linear_before_reset=linear, gate_order=order)
    np.testing.assert_allclose(Y.swapaxes(0, 1) if layout else Y, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(Y_h, last, rtol=0, atol=2e-5)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("batch", [1, 2, 12])
def test_a_long_sequence_at_a_real_size(isa: str, layout: int, batch: int) -> None:
    """Longer than the steps whose projections are made at a time; stopping and going on gives the same."""
    rng = np.random.default_rng(9)
    inputs, H, steps = 96, 128, 300
    input_n, state_n = solve(inputs, 3 * H, 0.05).n, solve(H, 3 * H, 0.05).n
    all_factors = (*factors(rng, inputs, 3 * H, input_n, 1), *factors(rng, H, 3 * H, state_n, 1))
    B = normal(rng, 6 * H)
    x = normal(rng, steps, batch, inputs)
    ready = session(gru_model(all_factors, inputs, H, B, True, layout=layout, gate_order="rzh"), threads=2)

    def run(part: Float, state: Float) -> tuple[Float, Float]:
        Y, Y_h = ready.run(None, {"X": part.swapaxes(0, 1) if layout else part, "initial_h": state})
        return (Y.swapaxes(0, 1) if layout else Y), Y_h

    zero = np.zeros((batch, H), np.float32)
    whole, last = run(x, zero)
    expected, _ = deepthin_gru(x, *all_factors, H, B, gate_order="rzh")
    np.testing.assert_allclose(whole, expected, rtol=0, atol=3e-5)
    first, state = run(x[:101], zero)
    second, final = run(x[101:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(final, last, rtol=0, atol=1e-5)


def test_the_input_size_is_found_from_minimal_factors() -> None:
    rng = np.random.default_rng(2)
    model = gru_model(layer_factors("GRU", rng, 33, 20, 7), 33, 20, None, False)
    assert session(model).run(None, {"X": np.zeros((2, 1, 33), np.float32)})[0].shape == (2, 1, 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate_order": "hrz"}, "gate_order must be zrh or rzh, not hrz"),
        ({"input_size": 0}, "input_size must be between 1"),
        ({"input_size": 9}, "cannot fill a 9 x 18 matrix"),
    ],
)
def test_wrong_attributes_are_refused(options: dict[str, Any], message: str) -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(REFUSED, match=message):
        session(gru_model(layer_factors("GRU", rng, 8, 6, 5), 8, 6, None, False, **options))


def test_a_hidden_size_that_the_factors_cannot_fill_is_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(REFUSED, match="cannot fill a 8 x 24 matrix"):
        session(gru_model(layer_factors("GRU", rng, 8, 6, 5), 8, 8, None, False, input_size=4))


def test_wrong_inputs_are_refused_at_run_time() -> None:
    rng = np.random.default_rng(2)
    all_factors = layer_factors("GRU", rng, 8, 6, 5)
    with_state = session(gru_model(all_factors, 8, 6, None, True, input_size=8))
    x, state = np.zeros((3, 2, 8), np.float32), np.zeros((2, 6), np.float32)
    assert with_state.run(None, {"X": x, "initial_h": state})[1].shape == (2, 6)
    with pytest.raises(REFUSED, match="initial_h must be batch x hidden_size"):
        with_state.run(None, {"X": x, "initial_h": np.zeros((3, 6), np.float32)})
    short_bias = session(gru_model(all_factors, 8, 6, np.zeros(18, np.float32), False, input_size=8))
    with pytest.raises(REFUSED, match="B must have 6 \\* hidden_size = 36"):
        short_bias.run(None, {"X": x})
    smaller = session(gru_model(all_factors, 8, 6, None, False, input_size=7))
    with pytest.raises(REFUSED, match="input_size = 7"):
        smaller.run(None, {"X": x})
