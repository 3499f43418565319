"""`python -m service.observability.render URL FOLDER`: draw the dashboard's queries, as a Prometheus answers them.

These are not pictures of Grafana: matplotlib draws the same queries, one picture for each row of the dashboard.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

from service.observability.client import Prometheus
from service.observability.dashboard import DASHBOARD
from service.observability.panels import COLUMNS, Kind, Panel, Row, Unit

_STEP_SECONDS = 2.0
_INK, _PAPER = "#24292f", "#ffffff"
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "text.color": _INK,
}


def render(prometheus: Prometheus, folder: Path, *, start: float, end: float) -> list[Path]:
    """One PNG for each row, of what was between two times in seconds since 1970."""
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.use("agg")
    paths = []
    for row in DASHBOARD.rows:
        path = folder / f"{re.sub(r'[^a-z]+', '-', row.title.lower())}.png"
        with pyplot.rc_context(_STYLE):
            _draw(row, prometheus, start, end).savefig(path, dpi=80)
            pyplot.close("all")
        paths.append(path)
    return paths


def _draw(row: Row, prometheus: Prometheus, start: float, end: float) -> Any:
    lines: list[list[Panel]] = [[]]
    for panel in row.panels:
        if sum(other.width for other in lines[-1]) + panel.width > COLUMNS:
            lines.append([])
        lines[-1].append(panel)
    # A number needs less room here than the smallest panel of Grafana's has.
    heights = [
        2.5 if all(panel.kind is Kind.NUMBER for panel in line) else max(panel.height for panel in line)
        for line in lines
    ]
    figure = pyplot.figure(figsize=(14, 0.42 * sum(heights)), layout="constrained")
    parts = figure.subfigures(len(lines), 1, height_ratios=heights, squeeze=False)
    for part, line in zip(parts[:, 0], lines, strict=True):
        places = part.subplots(1, len(line), width_ratios=[panel.width for panel in line], squeeze=False)
        for axes, panel in zip(places[0], line, strict=True):
            axes.set_title(panel.title, fontweight="bold")
            match panel.kind:
                case Kind.LINES:
                    _lines(axes, panel, prometheus, start, end)
                case Kind.BARS:
                    _bars(axes, panel, prometheus, end)
                case Kind.NUMBER:
                    _number(axes, panel, prometheus, end)
    return figure


def _lines(axes: Any, panel: Panel, prometheus: Prometheus, start: float, end: float) -> None:
    for query in panel.queries:
        for series in prometheus.over(query.expr, start, end, _STEP_SECONDS):
            axes.plot([at - start for at in series.times], series.values, linewidth=1, label=series.named(query.legend))
    if panel.red is not None:
        axes.axhline(panel.red, color="#cf222e", linewidth=0.8, linestyle="--")
    in_unit = FuncFormatter(lambda value, _: said(value, panel.unit))
    if panel.log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_minor_formatter(in_unit if high < 20 * low else NullFormatter())
        axes.tick_params(axis="y", which="minor", labelsize=6)
    else:
        axes.set_ylim(bottom=0)
        if panel.unit is Unit.BYTES:
            axes.yaxis.set_major_locator(MultipleLocator(2 ** math.ceil(math.log2(axes.get_ylim()[1] / 6))))
    axes.yaxis.set_major_formatter(in_unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.legend(fontsize=6, frameon=False, ncols=3, loc="upper left", bbox_to_anchor=(0, -0.08))


def _bars(axes: Any, panel: Panel, prometheus: Prometheus, at: float) -> None:
    found = [
        (series.named(query.legend), series.values[-1])
        for query in panel.queries
        for series in prometheus.now(query.expr, at)
    ]
    found.sort(reverse=True)
    names, values = [name for name, _ in found], [value for _, value in found]
    bars = axes.barh(names, values, color="#0969da")
    axes.bar_label(bars, [said(value, panel.unit) for value in values], padding=3, fontsize=7)
    axes.margins(x=0.25)
    # One bar is as thick as one of four.
    axes.set_ylim(min(-0.5, len(names) - 4.5), len(names) - 0.5)
    axes.tick_params(axis="y", labelsize=6 if len(names) > 10 else 7, length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _number(axes: Any, panel: Panel, prometheus: Prometheus, at: float) -> None:
    axes.set_axis_off()
    texts = []
    for query in panel.queries:
        for series in prometheus.now(query.expr, at):
            name = series.named(query.legend)
            texts.append(name if name.startswith("DeepThin ") else f"{said(series.values[-1], panel.unit)}  {name}")
    axes.text(0, 0.9, "\n".join(texts), fontsize=13 if len(texts) == 1 else 9, va="top", transform=axes.transAxes)


def said(value: float, unit: Unit) -> str:
    """A value in its unit for people."""
    match unit:
        case Unit.BYTES:
            for suffix in ("B", "KiB", "MiB"):
                if abs(value) < 1024:
                    return f"{value:.3g} {suffix}"
                value /= 1024
            return f"{value:.3g} GiB"
        case Unit.SECONDS:
            return f"{value:.3g} s" if abs(value) >= 1 or not value else f"{value * 1000:.3g} ms"
        case Unit.RATIO:
            return f"{value:.3g}" if value > 10 else f"{value * 100:.3g}%"
        case Unit.PER_SECOND:
            return f"{value:.3g}/s"
        case Unit.TIMES:
            return f"{value:.3g}x"
        case Unit.READY:
            return "yes" if value else "no"
        case Unit.SCIENTIFIC:
            return f"{value:.1e}"
        case _:
            return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def main() -> None:
    """Draw what a Prometheus knows of the last minutes."""
    parser = argparse.ArgumentParser("service.observability.render", description="Draw the dashboard's queries.")
    parser.add_argument("url", help="the Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--minutes", type=float, default=15.0, help="how far back (default: %(default)s)")
    options = parser.parse_args()
    end = time.time()
    for path in render(Prometheus(options.url), options.folder, start=end - 60 * options.minutes, end=end):
        print(path)


if __name__ == "__main__":
    main()
