"""Alert rules for Prometheus: what a person should be told of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from service.observability.dashboard import LATENCY_BUDGET_SECONDS

_JOB: Final = "deepthin"
"""Name of the scrape job in docker/prometheus/prometheus.yml."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule.

    Attributes:
        name: its name.
        value: PromQL of what is watched; there is always such a value while the service runs and is used.
        condition: what goes behind `value` to make the rule: a comparison.
        lasting: how long that must hold, in Prometheus's notation.
        severity: "critical": nobody is served, or answers are wrong; "warning": somebody should look.
        summary: what happened, with `$value` and `$labels` in Prometheus's notation.
        action: what to do.
    """

    name: str
    value: str
    condition: str
    lasting: str
    severity: str
    summary: str
    action: str

    @property
    def expr(self) -> str:
        """The rule's expression."""
        return f"{self.value} {self.condition}"


_RESIDENT = "deepthin_process_resident_memory_bytes"

ALERTS: Final = (
    Alert(
        "DeepThinDown",
        f'up{{job="{_JOB}"}}',
        "== 0",
        "1m",
        "critical",
        "DeepThin at {{ $labels.instance }} cannot be scraped.",
        "See whether the container runs (docker compose ps) and what it logged last (docker compose logs service).",
    ),
    Alert(
        "DeepThinNotReady",
        "deepthin_ready",
        "== 0",
        "1m",
        "critical",
        "The default model of {{ $labels.instance }} cannot answer.",
        "GET /readyz names the model and the reason; promote another one or roll back.",
    ),
    Alert(
        "DeepThinShedding",
        'sum by (instance) (rate(deepthin_requests_shed_total{reason=~"queue_full|backlog|jobs_full"}[5m]))',
        "> 0.02",
        "5m",
        "warning",
        "{{ $labels.instance }} refuses {{ $value | humanize }} requests a second.",
        "More load than the machine can take: a smaller model, more cores, or fewer clients.",
    ),
    Alert(
        "DeepThinSlow",
        "histogram_quantile(0.99, sum by (instance, le) (rate(deepthin_transcription_duration_seconds_bucket[5m])))",
        f"> {LATENCY_BUDGET_SECONDS:g}",
        "5m",
        "warning",
        "One transcription of a hundred takes {{ $value | humanizeDuration }} or more.",
        'The panel "Where the time goes" shows the stage; with queue, the machine has too much to do.',
    ),
    Alert(
        "DeepThinInternalErrors",
        'sum by (instance) (rate(deepthin_requests_total{status="500"}[5m])) '
        "or sum by (instance) (0 * rate(deepthin_requests_total[5m]))",
        "> 0",
        "1m",
        "warning",
        "{{ $labels.instance }} answers with status 500.",
        "The log has a traceback under the id of each such request.",
    ),
    Alert(
        "DeepThinParityFailure",
        "deepthin_model_parity_error_ratio",
        "> deepthin_model_parity_tolerance_ratio",
        "0m",
        "critical",
        "Model {{ $labels.model }} computes wrongly on {{ $labels.instance }}: an operator is off by {{ $value }}.",
        "Do not trust its transcripts. Set DEEPTHIN_OPS_ISA=scalar, promote a dense model, and report the processor.",
    ),
    Alert(
        "DeepThinJobsFail",
        'delta(deepthin_jobs{state="failed"}[1h])',
        "> 0",
        "0m",
        "warning",
        "Compression jobs have failed on {{ $labels.instance }} within the last hour.",
        "GET /jobs?state=failed gives the reasons.",
    ),
    Alert(
        "DeepThinMemoryGrows",
        _RESIDENT,
        f"> 1.5 * ({_RESIDENT} offset 6h) "
        "and on (instance) sum by (instance) (deepthin_model_ready) "
        "<= on (instance) sum by (instance) (deepthin_model_ready offset 6h)",
        "30m",
        "warning",
        "{{ $labels.instance }} holds {{ $value | humanize1024 }}B, half as much again as six hours ago, "
        "with no more models.",
        'Compare with the weights in the panel "Memory"; a restart loses no models and no jobs.',
    ),
)


def rules() -> str:
    """All rules as Prometheus reads them."""
    lines = [
        "# Written by `python -m service.observability`: change service/observability/alerts.py instead.",
        "groups:",
    ]
    lines += ["  - name: deepthin", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            # A text in JSON's quotes is one in YAML too.
            f"        expr: {json.dumps(alert.expr)}",
            f"        for: {alert.lasting}",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          action: {json.dumps(alert.action)}",
        ]
    return "\n".join(lines) + "\n"
