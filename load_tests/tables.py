"""The tables of docs/operations.md, from the results."""

from collections.abc import Mapping, Sequence
from typing import Final

from load_tests.scenarios import Result
from models.table import update

BEGIN: Final = "<!-- load: begin (written by `make load`) -->"
END: Final = "<!-- load: end -->"


def into(text: str, results: Sequence[Result], machine: str) -> str:
    """`text` with the tables of `results` between its markers."""
    parts = [f"Measured by `make load` on {machine}, the generator of the load included.", *map(render, results)]
    return update(text, "\n\n".join(parts), BEGIN, END)


def render(result: Result) -> str:
    """One result as Markdown."""
    return _capacity(result) if result.name == "capacity" else _comparison(result)


def verdict(result: Result) -> str:
    """A sentence on the promise; empty where there is none."""
    if result.limit is None:
        return ""
    if result.ratio is None:
        return f"Nothing was answered, so that nothing can be said of the limit of {result.limit:g}."
    percentile = "p99" if result.name == "overload" else "p95"
    kept = "kept" if result.ratio <= result.limit else "**missed**"
    said = f"The {percentile} is {result.ratio:.2f} times as long; promised: at most {result.limit:g} times ({kept})."
    if (held := result.figures.get("default", {}).get("worker_held")) is not None:
        said += f" The job stood still for {held:.0%} of the time."
    return said


def milliseconds(seconds: float | None) -> str:
    """A latency for a table."""
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"


def _capacity(result: Result) -> str:
    rows = [
        [
            f"`{name}`",
            f"{figures['streams_per_core']:.0f}",
            f"{figures['audio_per_processor_second']:.0f}",
            f"{figures['live_streams']:.0f}",
            milliseconds(figures["live_p50"]),
            milliseconds(figures["live_p99"]),
            f"{figures['live_shed']:.0f}",
        ]
        for name, figures in result.figures.items()
    ]
    head = ["Model", "Streams per core", "Audio s per CPU s", "Live streams", "p50", "p99", "shed"]
    return _table(head, rows)


def _comparison(result: Result) -> str:
    rows = [
        [
            title,
            str(run.requests),
            str(run.ok),
            str(run.shed),
            str(run.errors),
            f"{run.audio_seconds_per_second:.1f}",
            *(milliseconds(value) for value in (run.latency_p50, run.latency_p95, run.latency_p99, run.lag_p99)),
        ]
        for title, run in result.runs.items()
    ]
    head = ["Run", "Sent", "Answered", "Shed", "Errors", "Audio s per s", "p50", "p95", "p99", "Sent late"]
    return f"{_table(head, rows)}\n\n{verdict(result)}"


def figures_of(figures: Mapping[str, float]) -> str:
    """Figures on one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
