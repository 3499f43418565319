"""The results as one HTML file that needs no other: tables, bars and lines as SVG, light or dark as the reader is."""

from collections.abc import Sequence
from html import escape
from typing import Final

from load_tests.report import Report
from load_tests.scenarios import Result
from load_tests.tables import figures_of, milliseconds, verdict
from load_tests.watch import Memory

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --paper: #fff; --line: #d9d9e0; --one: #0d74ce;
  --two: #ab6400; --bad: #ce2c31; --good: #218358 }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #b0b4ba; --paper: #111113; --line: #363a3f;
  --one: #70b8ff; --two: #ffca16; --bad: #ff9592; --good: #3dd68c } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto } .soft, caption { color: var(--soft); text-align: left } .good { color: var(--good) }
.bad { color: var(--bad) } svg { width: 100%; height: auto; margin: 1rem 0 } text { fill: var(--ink); font-size: 12px }
.one { fill: var(--one) } .two { fill: var(--two) } polyline { fill: none; stroke-width: 2 }
polyline.one { fill: none; stroke: var(--one) } polyline.two { fill: none; stroke: var(--two) }
line { stroke: var(--line) }
"""
_WIDTH: Final = 720
_LABELS: Final = 240
_ROW: Final = 22
_PLOT_HEIGHT: Final = 160


def page(results: Sequence[Result], machine: str) -> str:
    """The HTML document."""
    sections = "".join(_section(result) for result in results)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>DeepThin under load</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>DeepThin under load</h1>"
        f'<p class="soft">{escape(machine)}; the generator of the load ran there too.</p>{sections}</body></html>\n'
    )


def _section(result: Result) -> str:
    parts = [f"<h2>{escape(result.name)}</h2>"]
    if said := verdict(result):
        parts.append(f'<p class="{"good" if result.kept else "bad"}">{escape(said.replace("*", ""))}</p>')
    if result.name == "capacity":
        streams = [(name, figures["streams_per_core"]) for name, figures in result.figures.items()]
        parts.append(_bars("Streams per core that are kept up with in real time", streams, "{:.0f}"))
    else:
        latencies = [
            (f"{title}, {name}", 1000 * value)
            for title, run in result.runs.items()
            for name, value in (("p50", run.latency_p50), ("p95", run.latency_p95), ("p99", run.latency_p99))
            if value is not None
        ]
        parts.append(_bars("Latency of answered requests", latencies, "{:.0f} ms"))
    parts.append(_runs(result.runs))
    if result.name != "capacity":
        parts += [f'<p class="soft">{escape(figures_of(figures))}</p>' for figures in result.figures.values()]
    parts.append(_memory(result.memory))
    return f"<section>{''.join(parts)}</section>"


def _runs(runs: dict[str, Report]) -> str:
    head = ("Run", "sent", "answered", "shed", "errors", "audio s per s", "p50", "p95", "p99", "sent late")
    rows = [
        (
            title,
            run.requests,
            run.ok,
            run.shed,
            run.errors,
            f"{run.audio_seconds_per_second:.1f}",
            *(milliseconds(value) for value in (run.latency_p50, run.latency_p95, run.latency_p99, run.lag_p99)),
        )
        for title, run in runs.items()
    ]
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{"".join(f"<th>{cell}</th>" for cell in head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _bars(title: str, items: Sequence[tuple[str, float]], unit: str) -> str:
    longest = max((value for _, value in items), default=0.0) or 1.0
    room = _WIDTH - _LABELS - 80
    rows = "".join(
        f'<text x="0" y="{number * _ROW + 15}">{escape(name)}</text>'
        f'<rect class="one" x="{_LABELS}" y="{number * _ROW + 3}" width="{room * value / longest:.1f}" height="16"/>'
        f'<text x="{_LABELS + room * value / longest + 6:.1f}" y="{number * _ROW + 15}">{unit.format(value)}</text>'
        for number, (name, value) in enumerate(items)
    )
    return _picture(title, len(items) * _ROW + 4, rows)


def _memory(points: Sequence[Memory]) -> str:
    if len(points) < 2:
        return '<p class="soft">The service told nothing of its memory.</p>'
    last = points[-1].at
    most = max(max(point.service, point.worker) for point in points)

    def place(at: float, size: float) -> str:
        return f"{(_WIDTH - 90) * at / last:.1f},{10 + (_PLOT_HEIGHT - 20) * (1 - size / most):.1f}"

    def curve(style: str, sizes: Sequence[int]) -> str:
        marks = " ".join(place(point.at, size) for point, size in zip(points, sizes, strict=True))
        return f'<polyline class="{style}" points="{marks}"/>'

    services, workers = [point.service for point in points], [point.worker for point in points]
    body = f'<line x1="0" y1="{_PLOT_HEIGHT - 10}" x2="{_WIDTH - 90}" y2="{_PLOT_HEIGHT - 10}"/>' + curve(
        "one", services
    )
    body += f'<text x="{_WIDTH - 84}" y="16">{max(services) / 1e6:.0f} MB</text>'
    if any(workers):
        body += curve("two", workers)
        body += f'<text x="{_WIDTH - 84}" y="34">job {max(workers) / 1e6:.0f} MB</text>'
    return _picture(f"Resident memory over {last:.0f} s, and its largest values", _PLOT_HEIGHT, body)


def _picture(title: str, height: int, body: str) -> str:
    return (
        f'<figure style="margin:0"><figcaption class="soft">{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg></figure>'
    )
