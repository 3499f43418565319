"""The geometry of least time is one of about the wished size."""

from math import gcd

import pytest

from ops.errors import GeometryError
from ops.fastest import solve_fastest
from ops.layout import solve


@pytest.mark.parametrize(("Q", "R", "size"), [(256, 256, 0.05), (300, 200, 0.1), (512, 512, 0.006)])
def test_it_is_of_the_wished_size_and_fills_the_matrix(Q: int, R: int, size: float) -> None:
    geometry = solve_fastest(Q, R, size)
    assert (geometry.Q, geometry.R) == (Q, R)
    assert gcd(geometry.n, Q) == 1
    least = min(0.97 * size, solve(Q, R, size).relative_size)
    assert least <= geometry.relative_size <= size
    assert solve_fastest(Q, R, size) is geometry


def test_a_size_that_no_rank_reaches_is_refused() -> None:
    with pytest.raises(GeometryError, match="no rank of"):
        solve_fastest(64, 64, 0.001)
