"""The geometry solver and the re-layout."""

from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import DeepThinError, GeometryError
from ops.layout import Geometry, inverse_relayout, reconstruct, relayout, smallest_size, solve

dims = st.integers(1, 60)


def reachable(Q: int, R: int, r: int) -> dict[int, float]:
    """Relative size by n, of every geometry with n coprime to Q and minimal m."""
    return {n: r * (n + -(-Q * R // n)) / (Q * R) for n in range(1, Q * R + 1) if gcd(n, Q) == 1}


@given(dims, dims, st.integers(1, 3), st.floats(0.01, 2.0), st.sampled_from(["small", "large"]))
def test_solver_finds_the_nearest_size_not_above_the_wish(Q: int, R: int, r: int, wish: float, root: str) -> None:
    sizes = reachable(Q, R, r)
    fitting = {n: size for n, size in sizes.items() if size <= wish * (1 + 1e-12)}
    if not fitting:
        with pytest.raises(GeometryError):
            solve(Q, R, wish, r, root)  # type: ignore[arg-type]
        return
    on_side = {n: s for n, s in fitting.items() if (n * n <= Q * R if root == "small" else n * n >= Q * R)}
    best = max((on_side or fitting).values())
    geometry = solve(Q, R, wish, r, root)  # type: ignore[arg-type]
    assert geometry.relative_size == pytest.approx(best)
    assert gcd(geometry.n, Q) == 1
    assert geometry.m == -(-Q * R // geometry.n)
    if on_side:
        assert geometry.n in on_side


@pytest.mark.parametrize("wish", [0.0195, 0.0129, 0.0099, 0.0057, 0.0040, 0.0027, 0.0020, 0.0014])
def test_solver_comes_close_at_real_sizes(wish: float) -> None:
    geometry = solve(2048, 2048, wish)
    assert wish * 0.95 < geometry.relative_size <= wish
    assert geometry.n < 2048


def test_roots_lie_on_both_sides_of_the_square() -> None:
    small, large = solve(512, 1536, 0.02), solve(512, 1536, 0.02, root="large")
    assert small.n < small.m
    assert large.n > large.m
    assert small.relative_size == pytest.approx(large.relative_size, rel=0.05)


def test_unreachable_size_names_the_smallest() -> None:
    with pytest.raises(GeometryError, match=f"smallest reachable size is {smallest_size(100, 100, 2):.6g}"):
        solve(100, 100, 0.01, r=2)
    reached = solve(100, 100, smallest_size(100, 100, 2), r=2)
    assert reached.relative_size == smallest_size(100, 100, 2)
    assert min(reachable(100, 100, 2).values()) == smallest_size(100, 100, 2)


@pytest.mark.parametrize("wish", [0.0, -1.0, float("nan")])
def test_a_wish_that_is_no_size_is_refused(wish: float) -> None:
    with pytest.raises(GeometryError, match="smallest reachable"):
        solve(8, 8, wish)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(GeometryError, match="at least 1"):
        solve(0, 8, 0.5)
    with pytest.raises(GeometryError, match="root"):
        solve(8, 8, 0.9, root="middle")  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="cannot fill"):
        Geometry(8, 8, 3, 3)
    with pytest.raises(GeometryError, match="at least 1"):
        Geometry(8, 8, 64, 1, 0)
    assert issubclass(GeometryError, DeepThinError)
    assert issubclass(GeometryError, ValueError)


@given(dims, dims, st.integers(1, 100))
def test_relayout_undoes_its_inverse(Q: int, R: int, n: int) -> None:
    W = np.arange(1.0, Q * R + 1).reshape(Q, R)
    W_aux = inverse_relayout(W, n)
    assert W_aux.shape == (-(-Q * R // n), n)
    assert np.array_equal(relayout(W_aux, Q, R), W)
    assert not W_aux.reshape(-1)[Q * R :].any()


@given(dims, dims, st.integers(1, 3), st.integers(1, 100))
def test_reconstruction_follows_the_definition(Q: int, R: int, r: int, n: int) -> None:
    rng = np.random.default_rng(Q + R + n)
    Xf, Wf = rng.standard_normal((-(-Q * R // n), r)), rng.standard_normal((r, n))
    W = reconstruct(Xf, Wf, Q, R)
    for q, c in ((0, 0), (Q - 1, R - 1), (Q // 2, R // 3)):
        k = c * Q + q
        assert W[q, c] == pytest.approx(Xf[k // n] @ Wf[:, k % n])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GeometryError, match="cannot fill"):
        relayout(np.zeros((2, 2)), 3, 3)
    with pytest.raises(GeometryError, match="Xf must be"):
        reconstruct(np.zeros((4, 2)), np.zeros((1, 4)), 2, 2)
    with pytest.raises(GeometryError, match="n must be"):
        inverse_relayout(np.zeros((2, 2)), 0)
