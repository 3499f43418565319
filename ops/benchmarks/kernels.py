"""``deepthin bench kernels``: DeepThinMatMul against what a user would take instead, and against the processor itself.

Calls of sessions, warm (the call before was the same) and cold (a larger array than the caches was written in between),
are compared with ONNX Runtime's fp32, int8 and int4 products, with a low-rank pair and a sparse matrix as small,
and with the same factors in fewer bits. Products without a session around them (``cache`` is ``kernel``) are compared
with what the processor's multiply-adds and memory allow. How sessions are timed: `ops.benchmarks.timing`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops import graph
from ops.benchmarks import rivals
from ops.benchmarks.kernels_page import drawings, render
from ops.benchmarks.kernels_row import CSR, EIGHT, FP32, HALF, INT4, INT8, LOW_RANK, PEAK, ROOFLINE, SIZES, Row
from ops.benchmarks.paths import forced
from ops.benchmarks.report import KERNELS, KERNELS_QUICK, kernel_setting, report
from ops.benchmarks.timing import bound_call, cores_of_their_own, dense_model, one_node_model, time_cold, time_in_turn
from ops.layout import Geometry, smallest_size, solve
from ops.library import session
from ops.measure import Measured, measure_product, peak_flops, read_bandwidth
from ops.quantised import quantise_rows

SIDES = (1024, 2048, 4096)
_SMALL = 512  # large enough for a transform


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench kernels",
        description="Time DeepThinMatMul against ONNX Runtime's fp32, int8 and int4 products and others of as many "
        "bytes, at the paper's eight sizes.",
        quick="1024 x 1024 and one thread only, with fewer rounds",
        rows=_rows,
        head=f"{kernel_setting()}\n{'Q = R':>6} {'threads':>7} {'batch':>5} {'cache':>6} {'size':>6} {'n':>4} "
        f"{'DeepThin':>9} {'other':>9} {'speed-up':>8}  other",
        line=lambda row: (
            f"{row.Q:>6} {row.threads:>7} {row.batch:>5} {row.cache:>6} {row.size:>6.4f} {row.n:>4} "
            f"{row.seconds * 1e6:>9.1f} {row.baseline_seconds * 1e6:>9.1f} {row.speedup:>7.1f}x  {row.baseline}"
        ),
        page=("kernels", render),
        drawings=drawings,
    )


def _rows(quick: bool) -> Iterator[Row]:
    sides, setting = ((1024,), KERNELS_QUICK) if quick else (SIDES, KERNELS)
    for side in sides:
        for size in SIZES:
            if size < smallest_size(side, side):
                print(f"left out: no {side} x {side} DeepThin matrix is as small as {size}", file=sys.stderr)
    return measure(sides, SIZES, *setting)


def measure(
    shapes: Sequence[int], sizes: Sequence[float], batches: Sequence[int], threads: Sequence[int], rounds: int
) -> Iterator[Row]:
    """Yield the rows of every square shape, thread count, batch and relative size; sizes out of reach are left out."""
    machine = Machine()
    for side in shapes:
        subjects = _subjects(side, [size for size in sizes if size >= smallest_size(side, side)])
        yield from _kernels(machine, subjects, batches, 0.004 * rounds)
        for count in threads:
            with cores_of_their_own(count) as config:
                yield from _sessions(machine, subjects, side, batches, count, rounds, config)


def _subjects(side: int, sizes: Sequence[float]) -> list[tuple[float, Geometry]]:
    """Each size, or the least one if it is out of reach, with its geometry."""
    reached = [max(size, smallest_size(side, side)) for size in sizes]
    return [(size, solve(side, side, size)) for size in reached]


class Machine:
    """What the processor can do, measured once."""

    def __init__(self) -> None:
        self.peak = peak_flops()
        self._bandwidths = {size: read_bandwidth(size) for size in (1 << 14, 1 << 18, 1 << 22, 1 << 24, 1 << 27)}

    def bandwidth(self, size: float) -> float:
        """Bytes in a second that one core reads of an array of `size` bytes: that of the next larger one measured."""
        return next((found for most, found in self._bandwidths.items() if size <= most), self._bandwidths[1 << 27])

    def row(self, size: float, geometry: Geometry, did: Measured, threads: int, **comparison: Any) -> Row:
        """A row with what there is to say of the geometry and the machine."""
        return Row(
            op="DeepThinMatMul",
            Q=geometry.Q,
            R=geometry.R,
            threads=threads,
            size=size,
            r=geometry.r,
            n=geometry.n,
            path=f"{'fft' if did.transformed else 'direct'},{'lanes' if did.lanes else 'rows'}",
            peak_gflops=threads * self.peak / 1e9,
            constant_bytes=did.constant_bytes,
            read_gb_s=self.bandwidth(did.constant_bytes) / 1e9,
            speedup=comparison["baseline_seconds"] / comparison["seconds"],
            **comparison,
        )


def _sessions(
    machine: Machine,
    subjects: Sequence[tuple[float, Geometry]],
    side: int,
    batches: Sequence[int],
    threads: int,
    rounds: int,
    config: Mapping[str, str],
) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    ready = [session(model, threads=threads, config=config) for model in _sides(rng, side, subjects)]
    # Two threads share caches that cannot be emptied at once by one: cold calls are of one.
    little = min(side, _SMALL)
    smaller = _subjects(little, [size for size, _ in subjects])
    small = [session(model) for model in _sides(rng, little, smaller)] if threads == 1 else []
    for batch in batches:
        x = rng.standard_normal((batch, side), np.float32)
        calls = [bound_call(candidate, x, side) for candidate in ready]
        found = {"warm": time_in_turn(calls, rounds, threads=threads)}
        if small:
            way = [bound_call(candidate, np.ascontiguousarray(x[:, :little]), little) for candidate in small]
            found["cold"] = time_cold(list(zip(calls, way, strict=True)), rounds)
        for cache, seconds in found.items():
            for place, (size, geometry) in enumerate(subjects):
                own, *others = seconds[3 + 5 * place : 8 + 5 * place]
                did = measure_product(geometry, batch)
                names = (FP32, INT8, INT4, HALF, EIGHT, LOW_RANK, CSR)
                for baseline, other in zip(names, (*seconds[:3], *others), strict=True):
                    yield machine.row(
                        size, geometry, did, threads, batch=batch, cache=cache, baseline=baseline, seconds=own,
                        baseline_seconds=other, gflops=did.flops / own / 1e9,
                    )  # fmt: skip


def _kernels(
    machine: Machine, subjects: Sequence[tuple[float, Geometry]], batches: Sequence[int], seconds: float
) -> Iterator[Row]:
    """Products without a session, against the processor."""
    for size, geometry in subjects:
        for batch in batches:
            # In turn, twice: what disturbs one measurement does not decide.
            found: dict[str, list[Measured]] = {"": [], "direct": []}
            for _ in range(2):
                for path, several in found.items():
                    with forced(path):
                        several.append(measure_product(geometry, batch, seconds))
            did, direct = (min(several, key=lambda one: one.seconds) for several in found.values())
            common: dict[str, Any] = {"batch": batch, "cache": "kernel", "seconds": did.seconds}
            least = max(did.flops / machine.peak, did.constant_bytes / machine.bandwidth(did.constant_bytes))
            yield machine.row(
                size, geometry, did, 1, baseline=ROOFLINE, baseline_seconds=least,
                gflops=did.flops / did.seconds / 1e9, **common,
            )  # fmt: skip
            if direct.correlation_seconds:
                common["seconds"] = direct.correlation_seconds
                yield machine.row(
                    size, geometry, direct, 1, baseline=PEAK, baseline_seconds=direct.correlation_flops / machine.peak,
                    gflops=direct.correlation_flops / direct.correlation_seconds / 1e9, **common,
                )  # fmt: skip


def _sides(rng: np.random.Generator, side: int, subjects: Sequence[tuple[float, Geometry]]) -> Iterator[bytes]:
    """Dense matrices of three types, and for each size its five."""
    weight = rng.standard_normal((side, side), np.float32)
    yield from (dense_model(weight), rivals.int8(weight), rivals.int4(weight))
    for size, geometry in subjects:
        yield from _models(rng, geometry)
        yield from (rivals.low_rank(rng, side, side, size), rivals.csr(rng, side, side, size))


def _models(rng: np.random.Generator, geometry: Geometry) -> Iterator[bytes]:
    """The operator with factors of float32, of float16, and with Xf of int8."""
    Q, R, m, n, r = geometry.Q, geometry.R, geometry.m, geometry.n, geometry.r
    Xf, Wf = rng.standard_normal((m, r), np.float32), rng.standard_normal((r, n), np.float32)
    half = Wf.astype(np.float16)
    codes, scales = quantise_rows(Xf)
    stored: list[dict[str, NDArray[Any]]] = [
        {"Xf": Xf, "Wf": Wf},
        {"Xf": Xf.astype(np.float16), "Wf": half},
        {"Xf": codes, "Wf": half, "Xf_scales": scales},
    ]
    for constants in stored:
        names = ["Xf", "Wf", *(["", "Xf_scales"] if "Xf_scales" in constants else [])]
        node = graph.node("DeepThinMatMul", ["X", *names], ["Y"], "deepthin", Q=Q, R=R)
        yield one_node_model(node, Q, R, constants)
