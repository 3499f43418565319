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
