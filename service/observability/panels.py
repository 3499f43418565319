"""Panels of a Grafana dashboard as values, and the JSON that Grafana reads (schema 41, Grafana 11.6).

Source: the types of the npm package `@grafana/schema` 11.6.0, which the tests hold the JSON against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

DATASOURCE: Final = {"type": "prometheus", "uid": "deepthin-prometheus"}
"""The data source that docker/grafana provisions under the same uid."""

RATE: Final = "$__rate_interval"
"""The window of a rate, which Grafana fills in so that it spans a few scrapes."""

MODELS: Final = "$model"
"""The models chosen at the top of the dashboard, as a regular expression."""

COLUMNS: Final = 24
_SCHEMA: Final = 41


class Kind(StrEnum):
    """How a panel shows its queries."""

    LINES = "timeseries"
    NUMBER = "stat"
    BARS = "bargauge"


class Unit(StrEnum):
    """Grafana's names of units."""

    BYTES = "bytes"
    SECONDS = "s"
    RATIO = "percentunit"
    PER_SECOND = "reqps"
    TIMES = "x"
    NUMBER = "short"
    SCIENTIFIC = "sci"
    READY = "bool_yes_no"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL; may hold `RATE` and `MODELS`.
        legend: name of each series, with labels in double braces.
    """

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: a few words.
        description: what it shows and what to make of it.
        kind: how.
        unit: of all its values.
        queries: at least one; those of numbers and bars are asked for their last value only.
        width: columns of 24.
        height: rows of 30 pixels.
        red: value from which on it is red, or None.
        stacked: whether the areas under lines are put on each other.
        log: whether the axis of lines is logarithmic.
    """

    title: str
    description: str
    kind: Kind
    unit: Unit
    queries: Sequence[Query]
    width: int = 8
    height: int = 8
    red: float | None = None
    stacked: bool = False
    log: bool = False

    def to_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel for Grafana at a place of the grid."""
        return {
            "id": number,
            "type": self.kind.value,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(query, index) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
        }

    def _target(self, query: Query, index: int) -> dict[str, Any]:
        lines = self.kind is Kind.LINES
        return {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "editorMode": "code",
            "range": lines,
            "instant": not lines,
        }

    def _defaults(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.red is not None:
            steps.append({"color": "red", "value": self.red})
        defaults: dict[str, Any] = {
            "unit": self.unit.value,
            "thresholds": {"mode": "absolute", "steps": steps},
            "color": {"mode": "palette-classic" if self.kind is Kind.LINES else "thresholds"},
        }
        if self.kind is Kind.LINES:
            defaults["custom"] = {
                "drawStyle": "line",
                "lineWidth": 1,
                "fillOpacity": 25 if self.stacked else 0,
                "showPoints": "never",
                "spanNulls": False,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "scaleDistribution": {"type": "log", "log": 10} if self.log else {"type": "linear"},
                "thresholdsStyle": {"mode": "off" if self.red is None else "dashed"},
            }
        if self.kind is Kind.BARS or self.unit is Unit.RATIO:
            defaults["min"] = 0
        return defaults

    def _options(self) -> dict[str, Any]:
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        match self.kind:
            case Kind.LINES:
                return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
            case Kind.NUMBER:
                return {
                    "colorMode": "value",
                    "graphMode": "none",
                    "justifyMode": "auto",
                    "orientation": "auto",
                    "percentChangeColorMode": "standard",
                    "reduceOptions": last,
                    "showPercentChange": False,
                    "textMode": "auto",
                    "wideLayout": True,
                }
            case Kind.BARS:
                return {
                    "displayMode": "basic",
                    "legend": {**legend, "showLegend": False},
                    "maxVizHeight": 300,
                    "minVizHeight": 12,
                    "minVizWidth": 8,
                    "namePlacement": "left",
                    "orientation": "horizontal",
                    "reduceOptions": last,
                    "showUnfilled": True,
                    "sizing": "auto",
                    "valueMode": "color",
                }


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, filled from the left; a line breaks where the next panel does not fit.

    Attributes:
        title: the heading.
        panels: from left to right, line after line.
    """

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard.

    Attributes:
        uid: what its address ends in.
        title: its name.
        description: what it is for.
        rows: from top to bottom.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]

    @property
    def panels(self) -> list[Panel]:
        """All panels, from top to bottom."""
        return [panel for row in self.rows for panel in row.panels]

    def to_json(self) -> dict[str, Any]:
        """The dashboard for Grafana."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["deepthin"],
            "schemaVersion": _SCHEMA,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [_models_variable()]},
            "panels": self._placed(),
        }

    def _placed(self) -> list[dict[str, Any]]:
        placed: list[dict[str, Any]] = []
        y = 0
        for row in self.rows:
            heading = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
            placed.append(
                {
                    "id": len(placed) + 1,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "panels": [],
                    "gridPos": heading,
                }
            )
            x, y, tallest = 0, y + 1, 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                placed.append(panel.to_json(len(placed) + 1, x, y))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return placed


def _models_variable() -> dict[str, Any]:
    return {
        "name": MODELS.removeprefix("$"),
        "label": "Models",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": "label_values(deepthin_model_info, model)", "refId": "models"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }
