"""The DeepThin layout: which stored value every entry of a weight matrix is, and how large the factors must be.

A ``Q x R`` matrix ``W`` (Q inputs, R outputs) is the *re-layout* of ``W_aux = Xf · Wf``, where ``Xf`` is ``m x r`` and
``Wf`` is ``r x n``: ``W_aux`` is read row by row and ``W`` is written column by column, so with ``k = c·Q + q``

    W[q, c] = sum_j Xf[k // n, j] · Wf[j, k mod n]

The ``m·n - Q·R`` surplus values are never read. Keeping n coprime to Q makes neighbouring columns of ``W`` start at
different phases of ``Wf``, which breaks the symmetry that would make them scaled copies of each other.

Source: Sotoudeh and Baghsorkhi, "DeepThin: A Self-Compressing Library for Deep Neural Networks", arXiv 1802.06944.
"""

from dataclasses import dataclass
from math import floor, isqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ops.errors import GeometryError


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a matrix and of the two factors that stand for it.

    Attributes:
        Q: Rows of the matrix (inputs of the layer).
        R: Columns of the matrix (outputs of the layer).
        m: Rows of ``Xf``.
        n: Columns of ``Wf``.
        r: Rank, the number of columns of ``Xf`` and of rows of ``Wf``.
    """

    Q: int
    R: int
    m: int
    n: int
    r: int = 1

    def __post_init__(self) -> None:
        if min(self.Q, self.R, self.m, self.n, self.r) < 1:
            raise GeometryError(f"every dimension of a geometry must be at least 1: {self}")
        if self.m * self.n < self.Q * self.R:
            raise GeometryError(
                f"m * n = {self.m * self.n} values cannot fill a {self.Q} x {self.R} matrix of {self.Q * self.R}"
            )

    @property
    def values(self) -> int:
        """The number of values stored, ``r * (m + n)``."""
        return self.r * (self.m + self.n)

    @property
    def relative_size(self) -> float:
        """Stored values divided by the values of the dense matrix."""
        return self.values / (self.Q * self.R)


def solve(Q: int, R: int, relative_size: float, r: int = 1, root: Literal["small", "large"] = "small") -> Geometry:
    """Find the geometry whose size is nearest to a wish without exceeding it, with n coprime to Q and m minimal.

    ``n + Q·R/n = relative_size·Q·R/r`` has two roots. The small one gives many rows of ``Xf`` and short rows of
    ``Wf``, and is by far the cheaper to compute with.

    Args:
        Q: Rows of the matrix.
        R: Columns of the matrix.
        relative_size: Wished stored values divided by ``Q·R``.
        r: Rank.
        root: Which of the two roots n is taken near.

    Returns:
        The geometry; its ``relative_size`` is the size really reached. Where only the other root's side has a coprime
        n that fits, that one is returned.

    Raises:
        GeometryError: No geometry is that small; the message names the smallest reachable size.
    """
    if min(Q, R, r) < 1:
        raise GeometryError(f"Q, R and r must be at least 1, not Q={Q}, R={R}, r={r}")
    if root not in ("small", "large"):
        raise GeometryError(f"root must be 'small' or 'large', not {root!r}")
    total = Q * R
    # The division is by decimal fractions such as 0.02: a hair of tolerance keeps exact wishes reachable.
    budget = floor(relative_size * total / r * (1 + 1e-12)) if relative_size > 0 else 0
    n = np.arange(1, max(1, min(budget, total)) + 1, dtype=np.int64)
    length = n + -(-total // n)
    fits = (length <= budget) & (np.gcd(n, Q) == 1)
    side = n * n <= total if root == "small" else n * n >= total
    candidates = np.flatnonzero(fits & side)
    if not candidates.size:
        candidates = np.flatnonzero(fits)
    if not candidates.size:
        smallest = smallest_size(Q, R, r)
        raise GeometryError(
            f"a {Q} x {R} matrix at rank {r} cannot be stored at relative size {relative_size:.6g}: "
            f"the smallest reachable size is {smallest:.6g}"
        )
    if root == "large":
        candidates = candidates[::-1]
    chosen = int(n[candidates[np.argmax(length[candidates])]])
    return Geometry(Q, R, -(-total // chosen), chosen, r)


def smallest_size(Q: int, R: int, r: int = 1) -> float:
    """The smallest relative size that any geometry with n coprime to Q reaches at rank r, about ``2r / sqrt(Q·R)``."""
    total = Q * R
    n = np.arange(1, 2 * isqrt(total) + 64, dtype=np.int64)
    length = n + -(-total // n)
    return r * int(length[np.gcd(n, Q) == 1].min()) / total


def relayout(W_aux: NDArray[Any], Q: int, R: int) -> NDArray[Any]:
    """Read ``W_aux`` (m x n) row by row and write a ``Q x R`` matrix column by column, dropping the surplus."""
    if W_aux.size < Q * R:
        raise GeometryError(f"{W_aux.size} values cannot fill a {Q} x {R} matrix of {Q * R}")
    return np.ascontiguousarray(W_aux).reshape(-1)[: Q * R].reshape(R, Q).T


def inverse_relayout(W: NDArray[Any], n: int) -> NDArray[Any]:
    """Turn a ``Q x R`` matrix into the ``m x n`` matrix that `relayout` would read; the surplus is zero."""
    if n < 1:
        raise GeometryError(f"n must be at least 1, not {n}")
    Q, R = W.shape
    m = -(-Q * R // n)
    W_aux = np.zeros(m * n, W.dtype)
    W_aux[: Q * R] = W.T.reshape(-1)
    return W_aux.reshape(m, n)


def reconstruct(Xf: NDArray[Any], Wf: NDArray[Any], Q: int, R: int) -> NDArray[Any]:
    """The dense ``Q x R`` matrix that the factors ``Xf`` (m x r) and ``Wf`` (r x n) stand for."""
    if Xf.ndim != 2 or Wf.ndim != 2 or Xf.shape[1] != Wf.shape[0]:
        raise GeometryError(f"Xf must be m x r and Wf r x n, not {Xf.shape} and {Wf.shape}")
    return relayout(Xf @ Wf, Q, R)
