"""Least squares where the normal matrix is too large to be written down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]


def conjugate_gradient(
    apply: Callable[[Real], Real],
    wanted: Real,
    start: Real,
    diagonal: Real,
    *,
    rounds: int,
    tolerance: float = 1e-3,
) -> Real:
    """Come closer to the solution of ``N · v = wanted`` than `start` is.

    Every round lowers ``v' · N · v - 2 · v' · wanted``. All arrays are of one shape.

    Args:
        apply: multiplies by ``N``, which is symmetric and positive semidefinite.
        wanted: the right-hand side.
        start: where to start.
        diagonal: roughly the diagonal of ``N``, by which the search is scaled.
        rounds: how often to multiply by ``N`` after the first time, at most.
        tolerance: stop where the scaled residual is this share of that of zero.

    Source: Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    """
    scale = 1.0 / np.maximum(diagonal, max(float(diagonal.max(initial=0.0)) * 1e-9, 1e-300))
    goal = tolerance**2 * float(np.vdot(wanted, scale * wanted))
    v = start.copy()
    residual = wanted - apply(v)
    step = scale * residual
    size = float(np.vdot(residual, step))
    for _ in range(rounds):
        if size <= goal:
            break
        product = apply(step)
        curvature = float(np.vdot(step, product))
        if curvature <= 0:
            break
        length = size / curvature
        v += length * step
        residual = residual - length * product
        scaled = scale * residual
        size, previous = float(np.vdot(residual, scaled)), size
        step = scaled + size / previous * step
    return v


def alternate(
    weight: npt.NDArray[np.floating],
    moment: Real,
    left: Real,
    right: Real,
    *,
    take: Callable[[Real], npt.NDArray[np.float32]],
    place: Callable[[npt.NDArray[np.floating]], Real],
    turns: int = 4,
    rounds: int = 6,
) -> tuple[Real, Real]:
    """Lower ``trace((W - V)' · moment · (W - V))`` for a ``V`` that is a product's values in other places.

    A few steps for either factor in turn; neither has a normal matrix that one could write down.

    Args:
        weight: ``W`` [Q, R].
        moment: [Q, Q].
        left: where to start, [m, r].
        right: where to start, [r, n].
        take: makes ``V`` of ``left · right``.
        place: the adjoint of `take`: puts every value of a [Q, R] back where it was taken, zero elsewhere.
        turns: how often both are solved for.
        rounds: steps for each.

    Returns:
        `left` and `right`.
    """
    H = moment.astype(np.float32)
    wanted = place(moment @ weight.astype(np.float64))
    curvature = place(np.broadcast_to(np.diag(moment)[:, None], weight.shape))

    def of_left(right: Real) -> Callable[[Real], Real]:
        return lambda left: place(H @ take(left @ right)) @ right.T

    def of_right(left: Real) -> Callable[[Real], Real]:
        return lambda right: left.T @ place(H @ take(left @ right))

    for _ in range(turns):
        left = conjugate_gradient(of_left(right), wanted @ right.T, left, curvature @ np.square(right.T), rounds=rounds)
        right = conjugate_gradient(of_right(left), left.T @ wanted, right, np.square(left.T) @ curvature, rounds=rounds)
    return left, right
