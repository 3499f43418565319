"""``deepthin bench kernels``: DeepThinMatMul against ONNX Runtime's own fp32 MatMul with a constant weight.

How they are timed: `ops.benchmarks.timing`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnxruntime as ort

from ops import graph
from ops.benchmarks.timing import Float, bound_call, dense_model, one_node_model, time_in_turn
from ops.layout import Geometry, smallest_size, solve
from ops.library import instruction_set, session

SIZES = (0.0195, 0.0129, 0.0099, 0.0057, 0.0040, 0.0027, 0.0020, 0.0014)
"""The relative sizes of the paper's tables."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        op: Operator measured.
        Q, R: Shape of the weight matrix.
        size: Relative size wished; the geometry is the nearest one not above it.
        r, n: Rank and row length of the geometry.
        batch: Rows per call.
        threads: Intra-op threads of both sessions.
        baseline: What it is compared with.
        seconds, baseline_seconds: Median time of a call.
        speedup: The second divided by the first.
    """

    op: str
    Q: int
    R: int
    size: float
    r: int
    n: int
    batch: int
    threads: int
    baseline: str
    seconds: float
    baseline_seconds: float
    speedup: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="deepthin bench kernels",
        description="Time DeepThinMatMul against ONNX Runtime's fp32 MatMul at the paper's eight sizes. "
        "Run it on an otherwise idle machine.",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows instead of a table")
    parser.add_argument("--quick", action="store_true", help="1024 x 1024 and one thread only, with fewer rounds")
    options = parser.parse_args(argv)
    shapes, threads, rounds = ((1024,), (1,), 3) if options.quick else ((1024, 2048), (1, 2), 9)
    for side in shapes:
        for size in SIZES:
            if size < smallest_size(side, side):
                print(f"left out: no {side} x {side} DeepThin matrix is as small as {size}", file=sys.stderr)
    rows = measure(shapes, SIZES, (1, 16, 64), threads, rounds)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return 0
    print(f"instruction set {instruction_set()}, ONNX Runtime {ort.__version__}; times in microseconds")
    print(f"{'Q = R':>6} {'threads':>7} {'batch':>5} {'size':>6} {'n':>4} {'DeepThin':>9} {'dense':>9} {'speed-up':>8}")
    for row in rows:
        print(
            f"{row.Q:>6} {row.threads:>7} {row.batch:>5} {row.size:>6.4f} {row.n:>4} {row.seconds * 1e6:>9.1f} "
            f"{row.baseline_seconds * 1e6:>9.1f} {row.speedup:>7.1f}x",
            flush=True,
        )
    return 0


def measure(
    shapes: Sequence[int], sizes: Sequence[float], batches: Sequence[int], threads: Sequence[int], rounds: int
) -> Iterator[Row]:
    """Yield one row per square shape, thread count, batch and relative size; sizes out of reach are left out."""
    rng = np.random.default_rng(0)
    for side in shapes:
        weight = _random(rng, side, side)
        for count in threads:
            dense = session(dense_model(weight), threads=count)
            thin = {
                size: _thin_session(rng, solve(side, side, size), count)
                for size in sizes
                if size >= smallest_size(side, side)
            }
            for batch in batches:
                x = _random(rng, batch, side)
                baseline = bound_call(dense, x, side)
                for size, (geometry, candidate) in thin.items():
                    seconds, baseline_seconds = time_in_turn([bound_call(candidate, x, side), baseline], rounds)
                    yield Row(
                        op="DeepThinMatMul",
                        Q=side,
                        R=side,
                        size=size,
                        r=geometry.r,
                        n=geometry.n,
                        batch=batch,
                        threads=count,
                        baseline=f"onnxruntime {ort.__version__} MatMul fp32",
                        seconds=seconds,
                        baseline_seconds=baseline_seconds,
                        speedup=baseline_seconds / seconds,
                    )


def _random(rng: np.random.Generator, *shape: int) -> Float:
    return rng.standard_normal(shape, dtype=np.float32)


def _thin_session(rng: np.random.Generator, geometry: Geometry, threads: int) -> tuple[Geometry, ort.InferenceSession]:
    Q, R = geometry.Q, geometry.R
    factors = {"Xf": _random(rng, geometry.m, geometry.r), "Wf": _random(rng, geometry.r, geometry.n)}
    node = graph.node("DeepThinMatMul", ["X", *factors], ["Y"], "deepthin", Q=Q, R=R)
    return geometry, session(one_node_model(node, Q, R, factors), threads=threads)
