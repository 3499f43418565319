"""DeepThin: plans, factors, streams, the exported operator, and the alternating least squares."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st

from models.compression.base import Calibration, SizeError, output_error
from models.compression.deepthin import DeepThin, factorise
from models.compression.deepthin_als import OutputLeastSquares, refine
from ops.layout import Geometry, reconstruct, solve
from ops.measure import kept_bytes
from tests.compression import contract
from tests.compression.contract import correlated, weight

METHOD = DeepThin()
sides = st.integers(1, 40)


def test_the_whole_range_can_be_had() -> None:
    contract.check_reaches(METHOD, 64, 96, within=0.45)


def test_a_size_below_the_reachable_names_the_range() -> None:
    with pytest.raises(
        SizeError, match=r"deepthin at rank 1 cannot store a 1024 x 1024 .* it reaches 0.00195408 to 0.333337"
    ):
        METHOD.plan(1024, 1024, 0.0014)


GEOMETRIES = [(7, 9, 3, 1), (6, 7, 11, 1), (5, 9, 4, 2), (12, 4, 1, 1), (6, 6, 36, 1), (3, 20, 7, 2), (16, 3, 9, 1)]


@pytest.mark.parametrize(("Q", "R", "n", "r"), [*GEOMETRIES, (1, 7, 2, 1), (4, 4, 4, 1), (10, 12, 4, 3), (9, 13, 1, 2)])
def test_both_steps_solve_the_normal_equations(Q: int, R: int, n: int, r: int) -> None:
    """Against the normal matrices written out entry by entry."""
    rng = np.random.default_rng(n)
    geometry = Geometry(Q, R, -(-Q * R // n), n, r)
    W, H = rng.standard_normal((Q, R)), correlated(Q)[1].damped(0.1)
    Xf, Wf = rng.standard_normal((geometry.m, r)), rng.standard_normal((r, n))
    problem = OutputLeastSquares(W, H, geometry)
    assert problem.energy == pytest.approx(np.trace(W.T @ H @ W))
    k = np.arange(Q * R)
    metric = np.kron(np.eye(R), H)
    for solved, unknowns, place in (
        (problem.solve_rows(Xf, Wf), geometry.m * r, lambda j: (k // n * r + j, Wf[j, k % n])),
        (problem.solve_taps(Xf, Wf)[0], n * r, lambda j: (j * n + k % n, Xf[k // n, j])),
    ):
        design = np.zeros((Q * R, unknowns))
        for j in range(r):
            columns, entries = place(j)
            design[k, columns] = entries
        wanted = design.T @ metric @ W.T.ravel()
        residual = design.T @ metric @ design @ solved.ravel() - wanted
        assert np.abs(residual).max() < 1e-7 * np.abs(wanted).max()
    V = reconstruct(Xf, problem.solve_taps(Xf, Wf)[0], Q, R)
    assert problem.solve_taps(Xf, Wf)[1] == pytest.approx(np.trace((W - V).T @ H @ (W - V)), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("size", "rank"), [(0.5, 1), (0.1, 1), (0.04, 1), (0.3, 3)])
def test_the_objective_never_grows(size: float, rank: int) -> None:
    Q, R = 70, 60
    W, H = weight(Q, R), correlated(Q)[1].damped()
    geometry = solve(Q, R, size, rank)
    start = factorise(W, geometry)
    first = output_error(W, reconstruct(start.Xf, start.Wf, Q, R), Calibration(H, 1)) ** 2
    Xf, Wf, history = refine(W, H, geometry, start.Xf, start.Wf, rounds=12, tolerance=0.0)
    assert len(history) >= 2
    assert history[0] < first
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(history))
    reached = output_error(W, reconstruct(Xf, Wf, Q, R), Calibration(H, 1)) ** 2
    assert history[-1] == pytest.approx(reached, rel=1e-6)


@pytest.mark.parametrize("size", [0.9, 0.1, 0.04])
def test_refine_agrees_with_the_svd_where_all_inputs_are_alike(size: float) -> None:
    """With H the identity the plain factors are the best but for the surplus, which least squares may use."""
    W = weight(50, 60)
    geometry = solve(50, 60, size)
    start = factorise(W, geometry)
    *_, history = refine(W, np.eye(50), geometry, start.Xf, start.Wf)
    assert history[-1] <= start.relative_error**2 * (1 + 1e-9)
    assert history[-1] > 0.97 * start.relative_error**2


def test_kept_bytes_follow_the_operator() -> None:
    # 1024 x 1024 at n = 39, which takes no transform: docs/kernels.md says 1.1 to 1.3 times the factors.
    geometry = solve(1024, 1024, 0.026)
    assert geometry.n == 39
    assert 1.0 < kept_bytes(geometry) / (4 * geometry.values) < 1.35
    # In half precision only the tables are as large.
    assert 0.5 < kept_bytes(geometry, half_Xf=True) / kept_bytes(geometry) < 0.6
    # From about n = 50 transforms of one row and of blocks come on top, each with a spectrum of Q + n - 1 values.
    long = solve(1024, 1024, 0.003)
    assert kept_bytes(long) > 4 * (1.1 * long.values + 2 * (1024 + long.n - 1))
    # Too few outputs for the lanes: computed from the factors as they are.
    assert kept_bytes(Geometry(100, 2, 4, 53, 1)) == 0
    # With few phases Xf is read where it lies, and held once more, rank by rank, where there are several.
    assert kept_bytes(Geometry(65, 64, 2080, 2, 3)) - kept_bytes(Geometry(65, 64, 2080, 2, 1)) >= 4 * 3 * 2080
