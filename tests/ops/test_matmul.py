"""DeepThinMatMul against the double-precision reference."""

from concurrent.futures import ThreadPoolExecutor
from math import gcd
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops import graph
from ops.layout import solve
from ops.library import instruction_set, session
from ops.reference import ACTIVATIONS, deepthin_matmul
from tests.ops.operators import REFUSED, check_product, factors, matmul_model

# The fixture forces an instruction set for all examples alike; hypothesis cannot know that this is meant.
examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@examples
@given(
    Q=st.integers(1, 90),
    R=st.integers(1, 90),
    n=st.integers(1, 150),
    r=st.integers(1, 4),
    rows=st.integers(0, 40),
    seed=st.integers(0, 99),
    bias=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
    surplus=st.integers(0, 2),
    threads=st.sampled_from([1, 2]),
)
def test_any_shape(isa: str, rows: int, **geometry: Any) -> None:
    assert instruction_set() == isa
    check_product(batch=(rows,), **geometry)


@examples
@given(
    Q=st.integers(30, 300),
    R=st.integers(200, 700),
    n=st.integers(2, 120),
    rows=st.integers(1, 70),
    threads=st.sampled_from([1, 2]),
    r=st.integers(1, 2),
)
def test_shapes_that_take_the_correlation(isa: str, rows: int, **geometry: Any) -> None:
    check_product(batch=(rows,), bias=True, **geometry)


@pytest.mark.parametrize(
    ("Q", "R", "n"),
    [
        (48, 64, 12),  # n divides Q
        (48, 64, 36),  # a common factor
        (64, 64, 64),  # n = Q
        (20, 30, 77),  # n > Q
        (20, 30, 601),  # n > Q * R: one row of Xf
        (1, 50, 7),
        (50, 1, 7),
        (1, 1, 1),
        (500, 40, 51),  # more phases than outputs
        (33, 70, 1),
        (33, 70, 2),
    ],
)
@pytest.mark.parametrize("rows", [1, 3, 9, 33])
def test_awkward_geometries(isa: str, Q: int, R: int, n: int, rows: int) -> None:
    check_product(Q, R, n, 2, (rows,), bias=True)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 12, 15])
@pytest.mark.parametrize(("Q", "R"), [(64, 64), (63, 19), (5, 40), (256, 301)])
@pytest.mark.parametrize("r", [1, 3])
def test_few_phases(isa: str, Q: int, R: int, n: int, r: int) -> None:
    for rows in (1, 2, 9, 21):
        check_product(Q, R, n, r, (rows,), bias=True, activation="relu", surplus=1, threads=2)


@pytest.mark.parametrize("wish", [0.0195, 0.0057, 0.0020])
@pytest.mark.parametrize("rows", [1, 16, 37])
@pytest.mark.parametrize("threads", [1, 2])
def test_real_sizes(isa: str, wish: float, rows: int, threads: int) -> None:
    geometry = solve(1024, 1536, wish)
    assert gcd(geometry.n, 1024) == 1
    check_product(1024, 1536, geometry.n, 1, (rows,), bias=True, activation="relu", threads=threads)


def test_large_root(isa: str) -> None:
    check_product(64, 192, solve(64, 192, 0.1, root="large").n, 1, (5,))


@pytest.mark.parametrize("batch", [(), (0,), (2, 0, 3), (2, 3, 4), (1, 1, 1, 9)])
def test_leading_axes(isa: str, batch: tuple[int, ...]) -> None:
    check_product(40, 50, 7, 1, batch, bias=True)


def test_two_threads_give_what_one_gives(isa: str) -> None:
    rng = np.random.default_rng(5)
    Xf, Wf = factors(rng, 1024, 1024, 301, 1)
    for rows in (1, 8, 64):
        x = rng.standard_normal((rows, 1024)).astype(np.float32)
        one, two = (session(matmul_model(1024, 1024, Xf, Wf), threads=t).run(None, {"X": x})[0] for t in (1, 2))
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("activation", "function"), [("sigmoid", lambda v: 1 / (1 + np.exp(-v))), ("tanh", np.tanh)])
def test_activations_are_exact_to_a_millionth(isa: str, activation: str, function: Any) -> None:
    one = np.ones((1, 1), np.float32)
    x = np.concatenate([np.linspace(-100, 100, 4001), np.linspace(-2, 2, 4001), [-np.inf, np.inf]])[:, None]
    x = x.astype(np.float32)
    (y,) = session(matmul_model(1, 1, one, one, activation=activation)).run(None, {"X": x})
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y, function(x.astype(np.float64)), rtol=0, atol=1e-6)


def test_not_a_number_stays_one(isa: str) -> None:
    one = np.ones((1, 1), np.float32)
    for activation in ("", "sigmoid", "tanh"):
        x = np.full((1, 1), np.nan, np.float32)
        assert np.isnan(session(matmul_model(1, 1, one, one, activation=activation)).run(None, {"X": x})[0])


def test_many_sessions_and_calls_at_once() -> None:
    rng = np.random.default_rng(1)
    Xf, Wf = factors(rng, 100, 130, 11, 1)
    shared = session(matmul_model(100, 130, Xf, Wf))
    inputs = [rng.standard_normal((rows, 100)).astype(np.float32) for rows in (1, 7, 12, 30) * 8]
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda x: shared.run(None, {"X": x})[0], inputs))
    for x, y in zip(inputs, outputs, strict=True):
        np.testing.assert_allclose(y, deepthin_matmul(x, Xf, Wf, 130), rtol=0, atol=1e-5)


def build(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "Q": 6,
        "R": 4,
        "Xf": np.ones((5, 1), np.float32),
        "Wf": np.ones((1, 5), np.float32),
    }
    session(matmul_model(**(arguments | changes)))


def test_the_smallest_model_builds() -> None:
    build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Xf": np.ones((4, 1), np.float32)}, "4 x 5 values cannot fill a 6 x 4 matrix"),
        ({"Xf": np.ones((5, 2), np.float32)}, "must be m x r and r x n"),
        ({"Xf": np.ones(5, np.float32)}, "must be m x r and r x n"),
        ({"Xf": np.ones((0, 1), np.float32)}, "m must be between 1"),
        ({"Wf": np.ones((1, 0), np.float32)}, "n must be between 1"),
        ({"Q": 0}, "Q must be between 1"),
        ({"R": -3}, "R must be between 1"),
        ({"activation": "gelu"}, "activation must be .*, not gelu"),
        ({"activation": "x" * 200}, "attribute activation is too long"),
    ],
)
def test_what_cannot_be_a_matrix_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(REFUSED, match=message):
        build(**changes)


def test_an_attribute_left_out_is_named() -> None:
    ones = [graph.tensor("Xf", np.ones((5, 1), np.float32)), graph.tensor("Wf", np.ones((1, 5), np.float32))]
    node = graph.node("DeepThinMatMul", ["X", "Xf", "Wf"], ["Y"], "deepthin", Q=6)
    model = graph.model([node], [graph.value("X", ["N", 6])], [graph.value("Y", ["N", 4])], ones)
    with pytest.raises(REFUSED, match="attribute R is missing"):
        session(model)


def test_factors_must_be_constant() -> None:
    node = graph.node("DeepThinMatMul", ["X", "Xf", "Wf"], ["Y"], "deepthin", Q=6, R=4)
    inputs = [graph.value("X", ["N", 6]), graph.value("Xf", [5, 1])]
    model = graph.model([node], inputs, [graph.value("Y", ["N", 4])], [graph.tensor("Wf", np.ones((1, 5), np.float32))])
    with pytest.raises(REFUSED, match="Xf must be a constant initializer"):
        session(model)


def test_wrong_inputs_are_refused_at_run_time() -> None:
    ones = [graph.tensor("Xf", np.ones((5, 1), np.float32)), graph.tensor("Wf", np.ones((1, 5), np.float32))]
    node = graph.node("DeepThinMatMul", ["X", "Xf", "Wf", "bias"], ["Y"], "deepthin", Q=6, R=4)
    inputs = [graph.value("X", ["N", "any"]), graph.value("bias", ["B"])]
    ready = session(graph.model([node], inputs, [graph.value("Y", ["N", 4])], ones))
    x, bias = np.ones((2, 6), np.float32), np.ones(4, np.float32)
    assert ready.run(None, {"X": x, "bias": bias})[0].tolist() == [[7.0] * 4] * 2
    with pytest.raises(REFUSED, match="last axis of X must have Q = 6"):
        ready.run(None, {"X": x[:, :5], "bias": bias})
    with pytest.raises(REFUSED, match="bias must have R = 4"):
        ready.run(None, {"X": x, "bias": bias[:3]})


def test_an_instruction_set_that_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_ISA", "mmx")
    with pytest.raises(REFUSED, match="DEEPTHIN_OPS_ISA=mmx names no instruction set"):
        build()
