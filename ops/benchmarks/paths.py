"""``deepthin bench paths``: the way that a product takes against the ways that it does not take.

`DeepThinMatMul` correlates by taps or by a transform, and takes rows one after the other or side by side; which, it
decides by counting operations when a session is created. Here each of the four fixed ways (``DEEPTHIN_OPS_PATH``) is
timed, without a session around it, and the one that was chosen is compared with the best.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from ops.benchmarks.kernels_row import SIZES
from ops.benchmarks.report import report
from ops.layout import Geometry, smallest_size, solve
from ops.library import instruction_set
from ops.markdown import table
from ops.measure import measure_product

FIXED = ("direct,rows", "direct,lanes", "fft,rows", "fft,lanes")
"""The ways of DEEPTHIN_OPS_PATH."""

SIDES, BATCHES = (512, 1024, 2048, 4096), (1, 4, 16, 64)
SLOWER = 1.1
"""By how much the chosen way may take longer than the best one."""

_ROUNDS, _SECONDS = 7, 0.003
_TRIES, _LOOKS_SLOW = 4, 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One product, computed in every way.

    Attributes:
        Q: Rows and columns of the matrix.
        batch: Rows of a call.
        size: Relative size wished; the geometry is the nearest one not above it.
        n: Row length of the geometry, of rank 1.
        path: The way that was chosen: ``direct`` or ``fft``, ``rows`` or ``lanes``.
        seconds: Least time of a call.
        best: The fixed way of the least time.
        best_seconds: Least time of a call that way.
        slower: The first time divided by the second.
    """

    Q: int
    batch: int
    size: float
    n: int
    path: str
    seconds: float
    best: str
    best_seconds: float
    slower: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench paths",
        description="Time the way that DeepThinMatMul chooses to compute a product beside each of the fixed ways.",
        quick="512 x 512 only, with fewer rounds",
        rows=lambda quick: measure((512,), SIZES, BATCHES, 2) if quick else measure(SIDES, SIZES, BATCHES, _ROUNDS),
        head=f"instruction set {instruction_set()}; times in microseconds\n"
        f"{'Q = R':>6} {'batch':>5} {'size':>6} {'n':>4} {'chosen':>13} {'time':>8} {'best':>13} {'time':>8} slower",
        line=lambda row: (
            f"{row.Q:>6} {row.batch:>5} {row.size:>6.4f} {row.n:>4} {row.path:>13} {row.seconds * 1e6:>8.1f} "
            f"{row.best:>13} {row.best_seconds * 1e6:>8.1f} {row.slower:>6.2f}"
        ),
        page=("paths", render),
    )


def measure(sides: Sequence[int], sizes: Sequence[float], batches: Sequence[int], rounds: int) -> Iterator[Row]:
    """Yield the rows of every square matrix, batch and relative size; sizes out of reach are left out."""
    for side in sides:
        for size in sizes:
            if size >= smallest_size(side, side):
                geometry = solve(side, side, size)
                for batch in batches:
                    yield _row(size, geometry, batch, rounds)


def _row(size: float, geometry: Geometry, batch: int, rounds: int) -> Row:
    with forced(""):
        did = measure_product(geometry, batch)
    # The way that is chosen is one of the fixed ones: timed apart, the same instructions would differ by what disturbs.
    path = f"{'fft' if did.transformed else 'direct'},{'lanes' if did.lanes else 'rows'}"
    # In turn, and the least of several: what disturbs one measurement does not decide. What looks slow is tried again.
    seconds = dict.fromkeys(FIXED, float("inf"))
    for turn in range(_TRIES * rounds):
        if turn >= rounds and seconds[path] < _LOOKS_SLOW * min(seconds.values()):
            break
        for way in FIXED:
            with forced(way):
                seconds[way] = min(seconds[way], measure_product(geometry, batch, _SECONDS).seconds)
    best = min(seconds, key=lambda way: seconds[way])
    return Row(
        Q=geometry.Q,
        batch=batch,
        size=size,
        n=geometry.n,
        path=path,
        seconds=seconds[path],
        best=best,
        best_seconds=seconds[best],
        slower=seconds[path] / seconds[best],
    )


def render(rows: Sequence[Row]) -> str:
    """The table, in Markdown."""
    wrong = [row for row in rows if row.slower > SLOWER]
    worst = max(rows, key=lambda row: row.slower)
    head = [f"{size:.4f}".removeprefix("0").rstrip("0") for size in SIZES]
    lines = []
    for (side, batch), found in groupby(sorted(rows, key=_setting), _setting):
        cells = {row.size: f"{row.slower:.2f}" for row in found}
        lines.append([f"{side}", f"{batch}", *(cells.get(size, "") for size in SIZES)])
    return "\n\n".join(
        [
            f"instruction set {instruction_set()}. Of {len(rows)} products, {len(wrong)} took more than "
            f"{SLOWER - 1:.0%} longer than the best fixed way; the worst took {worst.slower:.2f} times as long "
            f"({worst.Q} x {worst.Q}, batch {worst.batch}, {worst.size:g}: {worst.path} instead of {worst.best}).",
            table(["Q = R", "batch", *head], lines, left=2),
        ]
    )


def _setting(row: Row) -> tuple[int, int]:
    return row.Q, row.batch


@contextmanager
def forced(path: str) -> Iterator[None]:
    """DEEPTHIN_OPS_PATH for as long as the block runs; empty for what the library chooses."""
    before = os.environ.get("DEEPTHIN_OPS_PATH")
    os.environ["DEEPTHIN_OPS_PATH"] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ["DEEPTHIN_OPS_PATH"]
        else:
            os.environ["DEEPTHIN_OPS_PATH"] = before
