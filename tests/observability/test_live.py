"""Every query of the dashboard and of the alert rules, asked of a real Prometheus while a real service is used."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from service.observability.alerts import ALERTS
from tests.observability import live

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="there is no prometheus here (Debian: apt-get install prometheus)"
)


@pytest.fixture(scope="module")
def done() -> Iterator[live.Run]:
    with live.run() as finished:
        yield finished


def test_the_traffic_was_what_it_should_be(done: live.Run) -> None:
    assert {200, 404, 415, 503} <= set(done.statuses), done.statuses
    assert done.job["state"] == "succeeded", done.job


def test_every_panel_and_alert_has_an_answer(done: live.Run) -> None:
    assert live.unanswered(done.prometheus) == []


def test_the_numbers_are_those_of_the_traffic(done: live.Run) -> None:
    counted = done.prometheus.now('sum by (status) (deepthin_requests_total{route="/transcribe"})')
    assert {int(series.labels["status"]): int(series.values[0]) for series in counted} == done.statuses
    (succeeded,) = done.prometheus.now('deepthin_jobs{state="succeeded"}')
    assert succeeded.values == [1.0]


def test_alert_conditions_can_be_evaluated(done: live.Run) -> None:
    quiet = {alert.name: done.prometheus.now(alert.expr) for alert in ALERTS}
    for name in ("DeepThinDown", "DeepThinNotReady", "DeepThinParityFailure", "DeepThinJobsFail"):
        assert quiet[name] == [], name
