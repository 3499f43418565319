"""Rounding a weight to values it may take, so that the layer's output and not the weight is what stays close.

Both functions reduce ``trace((W - V)' · H · (W - V))`` for the mean outer product ``H`` of the layer's inputs:
`compensate` rounds one input after the other and lets the inputs that follow make up for the error (Frantar et al.,
"GPTQ", arXiv 2210.17323); `descend` then goes over them again and gives each the value that is best with all the
others as they are (Behdin et al., "QuantEase", arXiv 2309.01885), which never makes it worse.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Moment = npt.NDArray[np.float64]

_BLOCK = 128


class Choose(Protocol):
    """Picks the values that stand for a row of the weight."""

    def __call__(self, row: int, wished: Rows, curvature: float) -> Rows:
        """Values near `wished` [R] for input `row`; an error e costs ``curvature · e²``."""
        ...


def compensate(weight: npt.NDArray[Any], moment: Moment, choose: Choose) -> Rows:
    """Round a weight [Q, R] row by row, the inputs that matter most first.

    Args:
        weight: what to come close to.
        moment: [Q, Q], positive definite.
        choose: gives the value of each entry of a row.
    """
    order = np.argsort(-np.diag(moment), kind="stable")
    # Row i of U tells how the rows after i make up for an error of row i when all before it are settled: the factor of
    # the inverse, by way of that of the moment itself, since a computed inverse need not be positive definite.
    factor = np.linalg.cholesky(moment[np.ix_(order[::-1], order[::-1])])[::-1, ::-1]
    U = np.triu(np.linalg.inv(factor)).astype(np.float32)
    left = np.asarray(weight, np.float32)[order]
    rounded = np.empty_like(left)
    for first in range(0, len(order), _BLOCK):
        last = min(first + _BLOCK, len(order))
        errors = np.empty((last - first, left.shape[1]), np.float32)
        for row in range(first, last):
            rounded[row] = choose(int(order[row]), left[row], float(1 / U[row, row] ** 2))
            errors[row - first] = (left[row] - rounded[row]) / U[row, row]
            left[row + 1 : last] -= np.outer(U[row, row + 1 : last], errors[row - first])
        left[last:] -= U[first:last, last:].T @ errors
    result = np.empty_like(rounded)
    result[order] = rounded
    return result


def descend(weight: npt.NDArray[Any], start: Rows, moment: Moment, choose: Choose) -> Rows:
    """One sweep of coordinate descent from the rounded weight `start` [Q, R]; arguments as of `compensate`."""
    H = moment.astype(np.float32)
    target = np.asarray(weight, np.float32)
    values = start.copy()
    for first in range(0, len(H), _BLOCK):
        last = min(first + _BLOCK, len(H))
        slopes = H[first:last] @ (values - target)
        for row in range(first, last):
            curvature = float(H[row, row])
            new = choose(row, values[row] - slopes[row - first] / np.float32(curvature), curvature)
            slopes[row - first + 1 :] += np.outer(H[row + 1 : last, row], new - values[row])
            values[row] = new
    return values
