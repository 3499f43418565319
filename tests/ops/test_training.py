"""Products and gradients of a DeepThin layer in training, against the definition in double precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import training
from ops.layout import Geometry, reconstruct, solve
from tests.ops.layers import GEOMETRIES, address, backward, check, forward, layer, transposed


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("rows", [0, 1, 3, 16, 17, 33, 70])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_products_and_gradients_are_those_of_the_dense_layer(geometry, rows):
    Xf, Wf, bias, x, dy = layer(geometry, rows)
    W = reconstruct(Xf.astype(np.float64), Wf.astype(np.float64), geometry.Q, geometry.R)
    expected = x.astype(np.float64) @ W + bias
    np.testing.assert_allclose(forward(geometry, Xf, Wf, bias, x), expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(forward(geometry, Xf, Wf, None, x), expected - bias, rtol=0, atol=2e-5)
    check(backward(geometry, Xf, Wf, x, None, dy), geometry, Xf, Wf, x, dy)
    check(backward(geometry, Xf, Wf, x, None, dy, inputs=False), geometry, Xf, Wf, x, dy)
    check(transposed(geometry, Xf, Wf, dy), geometry, Xf, Wf, x, dy)


@pytest.mark.parametrize("activation", training.ACTIVATIONS)
@pytest.mark.usefixtures("isa")
def test_activations_are_applied_and_taken_back(activation):
    geometry = solve(40, 50, 0.2)
    Xf, Wf, bias, x, dy = layer(geometry, 21)
    x *= 20 if activation == "clipped_relu" else 1
    y = forward(geometry, Xf, Wf, bias, x, activation=activation)
    z = x.astype(np.float64) @ reconstruct(Xf.astype(np.float64), Wf.astype(np.float64), 40, 50) + bias
    sigmoid = 1 / (1 + np.exp(-z))
    outputs, slope = {
        "": (z, np.ones_like(z)),
        "relu": (np.maximum(z, 0), z > 0),
        "clipped_relu": (np.clip(z, 0, 20), (z > 0) & (z < 20)),
        "sigmoid": (sigmoid, sigmoid * (1 - sigmoid)),
        "tanh": (np.tanh(z), 1 - np.tanh(z) ** 2),
    }[activation]
    assert activation != "clipped_relu" or (z > 20).any()
    np.testing.assert_allclose(y, outputs, rtol=0, atol=1e-5 * max(1, np.abs(z).max()))
    check(backward(geometry, Xf, Wf, x, y, dy, activation=activation), geometry, Xf, Wf, x, dy * slope)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_geometry(data):
    Q, R = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    n, r = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 4))
    geometry = Geometry(Q, R, -(-Q * R // n) + data.draw(st.integers(0, 5)), n, r)
    Xf, Wf, bias, x, dy = layer(geometry, data.draw(st.integers(0, 40)), seed=n)
    W = reconstruct(Xf.astype(np.float64), Wf.astype(np.float64), Q, R)
    np.testing.assert_allclose(forward(geometry, Xf, Wf, bias, x), x @ W + bias, rtol=0, atol=5e-5)
    check(backward(geometry, Xf, Wf, x, None, dy), geometry, Xf, Wf, x, dy)
    check(transposed(geometry, Xf, Wf, dy, threads=2), geometry, Xf, Wf, x, dy)


def test_surplus_values_have_no_gradient():
    geometry = Geometry(10, 6, 20, 4)  # 80 values for 60
    Xf, Wf, _, x, dy = layer(geometry, 9)
    found = backward(geometry, Xf, Wf, x, None, dy)
    assert not found["Xf"][15:].any()
    assert found["Xf"][:15].all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_runs_with_as_many_threads_are_the_same(threads):
    geometry = solve(70, 90, 0.1)
    Xf, Wf, bias, x, dy = layer(geometry, 300)
    once, again = (forward(geometry, Xf, Wf, bias, x, threads=threads) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    first, second = (backward(geometry, Xf, Wf, x, None, dy, threads=threads) for _ in range(2))
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[name], err_msg=name)
    check(first, geometry, Xf, Wf, x, dy)


def test_what_cannot_be_is_refused():
    geometry = solve(40, 50, 0.2)
    Xf, Wf, bias, x, dy = layer(geometry, 2)
    with pytest.raises(training.TrainingError, match="unknown activation 'gelu'"):
        forward(geometry, Xf, Wf, bias, x, activation="gelu")
    with pytest.raises(training.TrainingError, match="needs its outputs"):
        backward(geometry, Xf, Wf, x, None, dy, activation="relu")
    with pytest.raises(training.TrainingError, match="negative"):
        training.forward(geometry, address(Xf), address(Wf), None, address(x), -1, address(dy))


def test_the_work_is_less_than_dense_at_sizes_worth_having():
    for size in (0.1, 0.0195):
        assert training.work(solve(1024, 1024, size)) * 7 < 3 * 1024 * 1024
