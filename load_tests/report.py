"""What a run of load came to."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from load_tests.drive import Sample


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run.

    Attributes:
        seconds: from the first request to the last answer.
        requests: how many were sent; each is one of `ok`, `shed` and `errors`.
        audio_seconds_per_second: seconds of audio transcribed in a second of the run.
        latency_p50, latency_p95, latency_p99: seconds, over the answered ("ok") requests, by nearest rank;
            None where there were none.
        lag_p99: seconds by which the requests were sent too late, answered or not; part of the latencies.
        details: how often each status or exception came.
    """

    seconds: float
    requests: int
    ok: int
    shed: int
    errors: int
    audio_seconds_per_second: float
    latency_p50: float | None
    latency_p95: float | None
    latency_p99: float | None
    lag_p99: float | None
    details: dict[str, int]

    @classmethod
    def of(cls, samples: Sequence[Sample], seconds: float) -> "Report":
        """Add up `samples`, which took `seconds` in all."""
        outcomes = Counter(sample.outcome for sample in samples)
        latencies = [sample.latency_seconds for sample in samples if sample.outcome == "ok"]
        return cls(
            seconds=seconds,
            requests=len(samples),
            ok=outcomes["ok"],
            shed=outcomes["shed"],
            errors=outcomes["error"],
            audio_seconds_per_second=sum(sample.audio_seconds for sample in samples) / seconds,
            latency_p50=percentile(latencies, 50),
            latency_p95=percentile(latencies, 95),
            latency_p99=percentile(latencies, 99),
            lag_p99=percentile([sample.lag_seconds for sample in samples], 99),
            details=dict(sorted(Counter(sample.detail for sample in samples).items())),
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """The figures for a person."""
        details = ", ".join(f"{detail}: {count}" for detail, count in self.details.items())
        latencies = ((50, self.latency_p50), (95, self.latency_p95), (99, self.latency_p99))
        return "\n".join(
            [
                f"{self.requests} requests in {self.seconds:.1f} s ({details})",
                f"answered {self.ok}, shed {self.shed}, errors {self.errors}",
                f"throughput {self.audio_seconds_per_second:.2f} s of audio a second",
                "latency "
                + ", ".join(f"p{q} " + ("-" if v is None else f"{v:.3f} s") for q, v in latencies)
                + f"; sent late by up to (p99) {self.lag_p99 or 0.0:.3f} s",
            ]
        )


def percentile(values: Sequence[float], q: float) -> float | None:
    """The smallest value that at least `q` per cent of `values` do not exceed; None for no values."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(q / 100 * len(values)), 1) - 1]
