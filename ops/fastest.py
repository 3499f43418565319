"""The geometry of least time: which (n, r) of about a wished size this processor multiplies by in the shortest time."""

from functools import lru_cache

import numpy as np

from ops.costs import CostModel, cost_model
from ops.errors import GeometryError
from ops.layout import Geometry, smallest_size, solve

_WORTH = 0.02


def solve_fastest(
    Q: int,
    R: int,
    relative_size: float,
    *,
    rows: int = 1,
    ranks: tuple[int, ...] = (1, 2, 3, 4),
    slack: float = 0.03,
    costs: CostModel | None = None,
) -> Geometry:
    """Like `ops.layout.solve`, with n and r chosen for the least time of a product of ``rows`` rows.

    All geometries of a size of at most the wished one, and of at least that less ``slack``, are compared by what they
    take with this processor's costs. The one that `solve` gives stays where none is 2% faster.

    Args:
        Q: Rows of the matrix.
        R: Columns of the matrix.
        relative_size: Wished stored values divided by ``Q·R``.
        rows: Rows of a call.
        ranks: Ranks to choose from.
        slack: How much smaller than the wished size a geometry may be, as a share of it.
        costs: What operations cost; None: as measured on this processor, see `ops.costs`.

    Raises:
        GeometryError: No geometry is that small.
        LibraryMissingError, LibraryMismatchError: There is no library to measure with.
    """
    return _solve(Q, R, relative_size, rows, ranks, slack, cost_model() if costs is None else costs)


@lru_cache(maxsize=1024)
def _solve(
    Q: int, R: int, relative_size: float, rows: int, ranks: tuple[int, ...], slack: float, costs: CostModel
) -> Geometry:
    reachable = [rank for rank in ranks if relative_size >= smallest_size(Q, R, rank)]
    if not reachable:
        raise GeometryError(f"no rank of {ranks} reaches relative size {relative_size:.6g} with a {Q} x {R} matrix")
    total, most = Q * R, relative_size * Q * R
    usual = solve(Q, R, relative_size, reachable[0])
    choices = [(usual.n, usual.r)]
    n = np.arange(1, min(int(most), total, 4 * Q) + 1)
    n = n[np.gcd(n, Q) == 1]
    for rank in reachable:
        values = rank * (n - (-total // n))
        fitting = n[((1 - slack) * most <= values) & (values <= most)]
        choices += [(each, rank) for each in fitting.tolist()]
    seconds = costs.seconds(Q, R, rows, choices)
    best = int(np.argmin(seconds))
    if seconds[best] > (1 - _WORTH) * seconds[0]:
        return usual
    found, rank = choices[best]
    return Geometry(Q, R, -(-total // found), found, rank)
