"""``deepthin bench kernels``: DeepThinMatMul against ONNX Runtime's own fp32 MatMul with a constant weight.

How they are timed: `ops.benchmarks.timing`.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ops import graph
from ops.benchmarks.report import KERNELS, KERNELS_QUICK, kernel_setting, report
from ops.benchmarks.timing import Comparison, compare, one_node_model
from ops.layout import Geometry, smallest_size, solve

SIZES = (0.0195, 0.0129, 0.0099, 0.0057, 0.0040, 0.0027, 0.0020, 0.0014)
"""The relative sizes of the paper's tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Comparison):
    """One comparison.

    Attributes:
        size: Relative size wished; the geometry is the nearest one not above it.
        r, n: Rank and row length of the geometry.
    """

    size: float
    r: int
    n: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench kernels",
        description="Time DeepThinMatMul against ONNX Runtime's fp32 MatMul at the paper's eight sizes.",
        quick="1024 x 1024 and one thread only, with fewer rounds",
        rows=_rows,
        head=f"{kernel_setting()}\n{'Q = R':>6} {'threads':>7} {'batch':>5} {'size':>6} {'n':>4} {'DeepThin':>9} "
        f"{'dense':>9} {'speed-up':>8}",
        line=lambda row: (
            f"{row.Q:>6} {row.threads:>7} {row.batch:>5} {row.size:>6.4f} {row.n:>4} {row.seconds * 1e6:>9.1f} "
            f"{row.baseline_seconds * 1e6:>9.1f} {row.speedup:>7.1f}x"
        ),
    )


def _rows(quick: bool) -> Iterator[Row]:
    sides, setting = ((1024,), KERNELS_QUICK) if quick else ((1024, 2048), KERNELS)
    for side in sides:
        for size in SIZES:
            if size < smallest_size(side, side):
                print(f"left out: no {side} x {side} DeepThin matrix is as small as {size}", file=sys.stderr)
    return measure(sides, SIZES, *setting)


def measure(
    shapes: Sequence[int], sizes: Sequence[float], batches: Sequence[int], threads: Sequence[int], rounds: int
) -> Iterator[Row]:
    """Yield one row per square shape, thread count, batch and relative size; sizes out of reach are left out."""
    rng = np.random.default_rng(0)
    for side in shapes:
        reached = [size for size in sizes if size >= smallest_size(side, side)]
        geometries = [solve(side, side, size) for size in reached]
        models = [_model(rng, geometry) for geometry in geometries]
        for place, found in compare(side, models, batches, threads, rounds):
            geometry = geometries[place]
            yield Row(op="DeepThinMatMul", size=reached[place], r=geometry.r, n=geometry.n, **found)


def _model(rng: np.random.Generator, geometry: Geometry) -> bytes:
    Q, R, m, n, r = geometry.Q, geometry.R, geometry.m, geometry.n, geometry.r
    factors = {"Xf": rng.standard_normal((m, r), np.float32), "Wf": rng.standard_normal((r, n), np.float32)}
    return one_node_model(graph.node("DeepThinMatMul", ["X", *factors], ["Y"], "deepthin", Q=Q, R=R), Q, R, factors)
