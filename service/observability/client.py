"""Asks a Prometheus what the panels would ask it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from service.observability.panels import MODELS, RATE


class QueryError(RuntimeError):
    """Prometheus does not understand a query, or is not there."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer.

    Attributes:
        labels: its labels.
        times: seconds since 1970 of each value.
        values: the values.
    """

    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]

    def named(self, legend: str) -> str:
        """Its name by a legend with labels in double braces."""
        return re.sub(r"\{\{(\w+)\}\}", lambda label: self.labels.get(label[1], ""), legend)


class Prometheus:
    """A Prometheus server."""

    def __init__(self, url: str, *, window: str = "1m") -> None:
        """`window` is what Grafana's `$__rate_interval` shall be."""
        self._url = url
        self._window = window

    def now(self, expr: str, at: float | None = None) -> list[Series]:
        """The answer to `expr` at this moment, or `at` seconds since 1970: one value for each series.

        Raises:
            QueryError: it cannot be answered.
        """
        when = {} if at is None else {"time": f"{at:.3f}"}
        return [_series(row, [row["value"]]) for row in self._ask("query", {"query": expr, **when})]

    def over(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """The answer to `expr` every `step` seconds between two times in seconds since 1970.

        Raises:
            QueryError: it cannot be answered.
        """
        when = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return [_series(row, row["values"]) for row in self._ask("query_range", {"query": expr, **when})]

    def _ask(self, path: str, data: dict[str, str]) -> list[dict[str, object]]:
        query = data["query"].replace(RATE, self._window).replace(MODELS, ".*")
        try:
            response = httpx.post(f"{self._url}/api/v1/{path}", data={**data, "query": query}, trust_env=False)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise QueryError(f"{self._url} does not answer: {error}") from error
        if answer.get("status") != "success":
            raise QueryError(f"{query}: {answer.get('error')}")
        rows: list[dict[str, object]] = answer["data"]["result"]
        return rows


def _series(row: Mapping[str, object], points: object) -> Series:
    labels = row["metric"]
    assert isinstance(labels, dict) and isinstance(points, list)
    return Series(labels, [float(time) for time, _ in points], [float(value) for _, value in points])
