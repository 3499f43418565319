"""What docs/performance.md shows of ``deepthin bench kernels``: tables, targets and the roofline."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from ops.benchmarks.kernels_row import CSR, EIGHT, FP32, HALF, INT4, INT8, LOW_RANK, PEAK, ROOFLINE, SIZES, Row
from ops.benchmarks.report import kernel_setting
from ops.benchmarks.roofline import roofline
from ops.markdown import table

_HEAD = [f"{size:.4f}".removeprefix("0").rstrip("0") for size in SIZES]


def render(rows: Sequence[Row]) -> str:
    """The tables, in Markdown."""
    sessions = [row for row in rows if row.cache != "kernel"]
    kernels = [row for row in rows if row.cache == "kernel"]
    parts = [f"{kernel_setting().partition(';')[0]}; r = 1.", "### Targets", _targets(rows)]
    parts += ["### Times faster than ONNX Runtime's fp32 product", _speedups(sessions, FP32)]
    for title, baseline in (
        ("its int8 product", INT8),
        ("its int4 product", INT4),
        ("a low-rank pair of as many bytes", LOW_RANK),
        ("a sparse matrix (CSR) of as many bytes", CSR),
    ):
        parts += [f"### Times faster than {title}", _speedups(sessions, baseline)]
    for title, baseline in (("factors in half precision", HALF), ("Xf in 8 bits and Wf in half precision", EIGHT)):
        parts += [
            f"### With {title}: times faster than with float32",
            _speedups(sessions, baseline, lambda row: f"{row.seconds / row.baseline_seconds:.2f}"),
        ]
    parts += ["### Microseconds of a call", _speedups(sessions, FP32, lambda row: f"{row.seconds * 1e6:.0f}")]
    parts += [
        "### The product alone",
        "Without a session: microseconds, the way that was chosen, 1e9 multiplications and additions really done in a "
        "second, and the share of the roofline that they are.",
        _alone(kernels),
        "The direct correlation, as a share of the multiply-adds that the core can do at most "
        f"({_peak(rows):.0f} GFLOP/s in this run):",
        _speedups([row for row in kernels if row.baseline == PEAK], PEAK, lambda row: f"{row.speedup:.0%}"),
        "![Roofline](roofline.svg)",
    ]
    return "\n\n".join(parts)


def drawings(rows: Sequence[Row]) -> Mapping[str, str]:
    """The roofline, beside the page."""
    points = [
        (row.gflops * row.seconds * 1e9 / row.constant_bytes, row.gflops, row.path.partition(",")[0], str(row.batch))
        for row in rows
        if row.baseline == ROOFLINE
    ]
    bandwidths = sorted({row.read_gb_s for row in rows if row.cache == "kernel"})
    return {"roofline.svg": roofline(_peak(rows), bandwidths, points)} if points else {}


def _peak(rows: Sequence[Row]) -> float:
    return max(row.peak_gflops / row.threads for row in rows)


def _speedups(rows: Iterable[Row], baseline: str, cell: Callable[[Row], str] = lambda row: f"{row.speedup:.1f}") -> str:
    chosen = sorted((row for row in rows if row.baseline == baseline), key=_setting)
    lines = []
    for (side, threads, cache, batch), found in groupby(chosen, _setting):
        cells = {row.size: cell(row) for row in found}
        lines.append([f"{side}", f"{threads}", cache, f"{batch}", *(cells.get(size, "") for size in SIZES)])
    return table(["Q = R", "threads", "cache", "batch", *_HEAD], lines, left=4)


def _setting(row: Row) -> tuple[int, int, str, int]:
    return row.Q, row.threads, row.cache, row.batch


def _alone(rows: Iterable[Row]) -> str:
    lines = [
        [
            f"{row.Q}", f"{row.batch}", f"{row.size:.4f}", f"{row.n}", row.path, f"{row.seconds * 1e6:.1f}",
            f"{row.gflops:.0f}", f"{row.speedup:.0%}",
        ]
        for row in sorted(rows, key=lambda row: (row.Q, row.batch, -row.size))
        if row.baseline == ROOFLINE
    ]  # fmt: skip
    return table(["Q = R", "batch", "size", "n", "way", "µs", "GFLOP/s", "of the roofline"], lines, left=5)


def _targets(rows: Sequence[Row]) -> str:
    """The least figure over the sizes for each target of speed."""

    def least(
        side: int, batches: Sequence[int], baseline: str, cache: str = "warm", above: float = 0.0
    ) -> float | None:
        found = [
            row.speedup
            for row in rows
            if (row.Q, row.threads, row.cache, row.baseline) == (side, 1, cache, baseline)
            and row.batch in batches
            and row.size >= above
        ]
        return min(found, default=None)

    def scaling() -> float | None:
        one, two = (
            {
                (row.size, row.path): row.seconds
                for row in rows
                if (row.Q, row.batch, row.threads, row.cache, row.baseline) == (2048, 64, count, "warm", FP32)
            }
            for count in (1, 2)
        )
        return min((one[key] / two[key] for key in one.keys() & two.keys()), default=None)

    wanted: list[tuple[str, float, float | None]] = [
        ("2048 x 2048, batch 1: times faster than fp32", 20, least(2048, [1], FP32)),
        ("2048 x 2048, batch 1: times faster than int8", 3, least(2048, [1], INT8)),
        (
            "2048 x 2048, batch 1: times faster than a low-rank pair, up to .0057",
            1 / 3,
            least(2048, [1], LOW_RANK, above=0.005),
        ),
        ("2048 x 2048, batch 16 and 64: times faster than fp32", 8, least(2048, [16, 64], FP32)),
        ("2048 x 2048, batch 64: two threads by one", 1.7, scaling()),
        ("1024 x 1024, batch 1: times faster than fp32", 6, least(1024, [1], FP32)),
        ("4096 x 4096, batch 1: times faster than fp32", 100, least(4096, [1], FP32)),
        ("2048 x 2048, batch 1, cold: times faster than fp32", 20, least(2048, [1], FP32, "cold")),
        ("4096 x 4096, batch 1, cold: times faster than fp32", 100, least(4096, [1], FP32, "cold")),
        ("2048 x 2048, batch 64: direct correlation by the core's peak", 0.6, least(2048, [64], PEAK, "kernel")),
    ]
    lines = [
        [name, f"{target:.2g}", f"{found:.2f}", "reached" if found >= target else "not reached"]
        for name, target, found in wanted
        if found is not None
    ]
    return table(["the least over the sizes", "wanted", "found", ""], lines)
