"""Which entries of a weight to keep, and with what values.

Without calibration, the largest stay as they are (Han et al., "Learning both Weights and Connections", arXiv
1506.02626). With it, the entries to keep are looked for by the alternating direction method of multipliers on ever
fewer entries (Boža, "Fast and Effective Weight Update for Pruned Large Language Models", arXiv 2401.02938), then
exchanged as long as that helps, and the values are those of least squares on what is kept (the exact solution that
the optimal brain surgeon and SparseGPT, arXiv 2301.00774, approximate).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.compression.base import Matrix
from models.compression.rounding import Moment

Mask = npt.NDArray[np.bool_]
Real = npt.NDArray[np.float64]
Keep = Callable[[npt.NDArray[Any]], Mask]
"""Takes the importance of every entry [Q, R], gives the entries to keep."""

_STEPS: Final = 30
_THINNING: Final = 20  # steps until only as many entries are left as are kept in the end
_EXCHANGES: Final = 4
_EXCHANGED: Final = 0.3  # of the entries that are kept


def largest(importance: npt.NDArray[Any], count: int) -> Mask:
    """Exactly `count` of the most important entries, 0 to all of them."""
    kept = np.zeros(importance.size, np.bool_)
    if count > 0:
        kept[np.argpartition(importance, importance.size - count, axis=None)[importance.size - count :]] = True
    return kept.reshape(importance.shape)


def prune(weight: Matrix, keep: Keep, moment: Moment | None = None) -> tuple[Matrix, Mask]:
    """The values [Q, R] of the entries to keep, zero elsewhere, and which they are.

    Args:
        weight: [Q, R].
        keep: picks the entries; always about as many.
        moment: [Q, Q], positive definite: minimise the error of the output instead of that of the weight.
    """
    if moment is None:
        kept = keep(np.abs(weight))
        return np.where(kept, weight, np.float32(0)), kept
    W = np.asarray(weight, np.float64)
    kept = _alternate(W, keep, moment)
    values, kept = _exchange(W, keep, moment, kept)
    return values.astype(np.float32), kept


def least_squares(weight: Real, kept: Mask, moment: Moment) -> Real:
    """The values of the `kept` entries, zero elsewhere, with the least error of the output."""
    Q = len(moment)
    values = np.zeros_like(weight)
    products = moment @ weight
    # Of many entries of an output, it is cheaper to solve for what the few that are dropped leave to the others.
    inverse = np.linalg.inv(moment) if kept.sum(axis=0).max(initial=0) > Q // 2 else moment
    for column in range(weight.shape[1]):
        inside = np.flatnonzero(kept[:, column])
        if len(inside) <= Q // 2:
            values[inside, column] = np.linalg.solve(moment[np.ix_(inside, inside)], products[inside, column])
            continue
        outside = np.flatnonzero(~kept[:, column])
        share = np.linalg.solve(inverse[np.ix_(outside, outside)], weight[outside, column])
        values[inside, column] = weight[inside, column] - inverse[np.ix_(inside, outside)] @ share
    return values


def _alternate(weight: Real, keep: Keep, moment: Moment) -> Mask:
    scale = np.sqrt(np.diag(moment))
    scaled = moment / np.outer(scale, scale)
    target = weight * scale[:, None]
    products = (scaled @ target).astype(np.float32)
    solve = np.linalg.inv(scaled + np.eye(len(scaled))).astype(np.float32)
    free = target.astype(np.float32)
    kept = keep(np.abs(free))
    total, count = weight.size, int(kept.sum())
    dual = np.zeros_like(free)
    for step in range(1, _STEPS + 1):
        wished = free + dual
        left = (1 - min(step / _THINNING, 1.0)) ** 3
        size = count + round((total - count) * left)
        kept = keep(np.abs(wished)) if size <= count else largest(np.abs(wished), size)
        sparse = np.where(kept, wished, np.float32(0))
        dual = wished - sparse
        free = solve @ (products + sparse - dual)
    return kept


def _exchange(weight: Real, keep: Keep, moment: Moment, kept: Mask) -> tuple[Real, Mask]:
    curvature = np.diag(moment)[:, None]
    products = moment @ weight

    def gain(values: Real) -> float:
        return float(np.vdot(values, products))

    # At the least-squares values, what is left of the error is a constant less this.
    values = least_squares(weight, kept, moment)
    share = _EXCHANGED
    for _ in range(_EXCHANGES):
        slopes = np.where(kept, 0.0, products - moment @ values)
        wider = kept | largest(np.square(slopes) / curvature, max(1, int(share * kept.sum())))
        importance = np.square(least_squares(weight, wider, moment)) * curvature
        other = keep(np.where(wider, importance, -1.0))
        refitted = least_squares(weight, other, moment)
        if gain(refitted) > gain(values):
            values, kept = refitted, other
        else:
            share /= 2
    return values, kept
