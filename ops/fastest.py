"""The geometry of least time: which (n, r) of about a wished size this processor multiplies by in the shortest time."""

from functools import lru_cache
from math import gcd

from ops.errors import GeometryError
from ops.layout import Geometry, smallest_size, solve
from ops.library import instruction_set
from ops.measure import estimate_products, measure_product

_TIMED, _ROUNDS = 4, 5


def solve_fastest(
    Q: int, R: int, relative_size: float, *, rows: int = 1, ranks: tuple[int, ...] = (1, 2, 3, 4), slack: float = 0.03
) -> Geometry:
    """Like `ops.layout.solve`, with n and r chosen for the least time of a product of ``rows`` rows.

    All geometries of a size of at most the wished one, and of at least that less ``slack``, are compared by their
    operations; the four of the fewest, and the one that `solve` gives, are timed for a few milliseconds each. Found
    geometries are kept for as long as the process runs.

    Args:
        Q: Rows of the matrix.
        R: Columns of the matrix.
        relative_size: Wished stored values divided by ``Q·R``.
        rows: Rows of a call.
        ranks: Ranks to choose from.
        slack: How much smaller than the wished size a geometry may be, as a share of it.

    Raises:
        GeometryError: No geometry is that small.
        LibraryMissingError, LibraryMismatchError: There is no library to measure with.
    """
    return _solve(Q, R, relative_size, rows, ranks, slack, instruction_set())


@lru_cache(maxsize=1024)
def _solve(Q: int, R: int, relative_size: float, rows: int, ranks: tuple[int, ...], slack: float, isa: str) -> Geometry:
    reachable = [rank for rank in ranks if relative_size >= smallest_size(Q, R, rank)]
    if not reachable:
        raise GeometryError(f"no rank of {ranks} reaches relative size {relative_size:.6g} with a {Q} x {R} matrix")
    total, most = Q * R, relative_size * Q * R
    choices = [
        (n, rank)
        for rank in reachable
        for n in range(1, min(int(most), total, 4 * Q) + 1)
        if (1 - slack) * most <= rank * (n - (-total // n)) <= most and gcd(n, Q) == 1
    ]
    counted = sorted(zip(map(sum, estimate_products(Q, R, rows, choices)), choices, strict=True)) if choices else []
    compared = [Geometry(Q, R, -(-total // n), n, rank) for _, (n, rank) in counted[:_TIMED]]
    usual = solve(Q, R, relative_size, reachable[0])
    # In turn, and the least of several: what disturbs one measurement does not decide.
    seconds = {geometry: float("inf") for geometry in (usual, *compared)}
    for _ in range(_ROUNDS):
        for geometry in seconds:
            seconds[geometry] = min(seconds[geometry], measure_product(geometry, rows, 0.002).seconds)
    return min(seconds, key=lambda geometry: seconds[geometry])
