"""The three questions that a service is asked: how much can it do, what does too much do to it, and what does a job?"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from load_tests.drive import Sample, closed_loop, open_loop, poisson_arrivals, stream_arrivals
from load_tests.jobs import running_jobs
from load_tests.report import Report
from load_tests.target import Ask, Clip, mixed
from load_tests.watch import Memory, held_seconds, processor_seconds, watching

# Callers for each core: no thread waits for one of them, and what they send fits into the queue.
_SATURATING: Final = 2
_ROUNDS: Final = 3
_USUAL_LOAD: Final = 0.8
_OVERLOAD: Final = 10
_BESIDE_LOAD: Final = 0.5

# What the service promises.
OVERLOAD_LIMIT: Final = 2.0
JOB_LIMIT: Final = 1.3


@dataclass(frozen=True, slots=True)
class Bench:
    """What every scenario needs.

    Attributes:
        client: speaks to the service.
        clips: what is sent.
        cores: processors of the machine that the service runs on.
        pace: durations are multiplied with this; 1 for figures, less to see that everything works.
        tell: called with what happens now.
        seed: of the arrival times.
    """

    client: httpx.AsyncClient
    clips: Sequence[Clip]
    cores: int
    pace: float = 1.0
    tell: Callable[[str], None] = print
    seed: int = 0

    @property
    def callers(self) -> int:
        """How many callers, one request each, keep the service as busy as it can be."""
        return _SATURATING * self.cores

    async def measure(self, load: Awaitable[list[Sample]]) -> tuple[list[Sample], float]:
        """What came of `load`, and the seconds it took."""
        start = time.perf_counter()
        samples = await load
        return samples, time.perf_counter() - start

    async def capacity(self, asks: Sequence[Ask], seconds: float) -> float:
        """Requests a second that the service can answer."""
        await closed_loop(self.client, asks, self.callers, self.pace)
        samples, taken = await self.measure(closed_loop(self.client, asks, self.callers, seconds * self.pace))
        answered = sum(sample.outcome == "ok" for sample in samples)
        if not answered:
            raise ScenarioError(f"the service answered none of {len(samples)} requests: {Report.of(samples, taken)}")
        return answered / taken

    def arrivals(self, rate: float, seconds: float, number: int = 0) -> list[float]:
        """Poisson arrivals; `number` tells runs of one scenario apart."""
        return poisson_arrivals(rate, seconds * self.pace, self.seed + number)


class ScenarioError(RuntimeError):
    """Nothing can be said of a service that answers nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found.

    Attributes:
        name: of the scenario.
        runs: the figures of each run, by its title.
        figures: what they come to.
        memory: of the service and its worker, over the whole scenario.
        ratio: what is promised to stay below `limit`; None where nothing is promised.
        limit: the promise.
    """

    name: str
    runs: dict[str, Report]
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: list[Memory] = field(default_factory=list)
    ratio: float | None = None
    limit: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the promise is kept, and no request failed."""
        promised = self.limit is None or (self.ratio is not None and self.ratio <= self.limit)
        return promised and not any(run.errors for run in self.runs.values())

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "name": self.name,
            "kept": self.kept,
            "ratio": self.ratio,
            "limit": self.limit,
            "figures": self.figures,
            "runs": {title: run.to_dict() for title, run in self.runs.items()},
            "memory": [[round(point.at, 2), point.service, point.worker] for point in self.memory],
        }


async def capacity(bench: Bench) -> Result:
    """Every hosted model alone: audio seconds in a second, and whether as many live streams are kept up with.

    The models take turns, so that whatever else the machine does hits all of them alike. Then each one gets 0.8 times
    as many streams as it could take: clients that send what they recorded as soon as it is complete.
    """
    names = await _ready_models(bench.client)
    runs, figures = {}, {}
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    processor = dict.fromkeys(names, 0.0)
    whole = bench.clips[:1]
    async with watching(bench.client) as watch:
        for name in names:
            await closed_loop(bench.client, mixed(whole, [name]), bench.callers, 0.5 * bench.pace)
        for turn in range(_ROUNDS):
            for name in names:
                bench.tell(f"capacity: {name}, round {turn + 1} of {_ROUNDS}")
                before = await processor_seconds(bench.client)
                load = closed_loop(bench.client, mixed(whole, [name]), bench.callers, 4 * bench.pace)
                found, taken = await bench.measure(load)
                processor[name] += await processor_seconds(bench.client) - before
                samples[name] += found
                seconds[name] += taken
        for name in names:
            saturated = runs[f"{name}, all it can"] = Report.of(samples[name], seconds[name])
            answered = [sample.audio_seconds for sample in samples[name] if sample.outcome == "ok"]
            if not answered:
                raise ScenarioError(f"{name} answered nothing: {saturated.details}")
            period = max(answered)
            streams = max(1, int(_USUAL_LOAD * saturated.audio_seconds_per_second))
            bench.tell(f"capacity: {name}, {streams} streams")
            arrivals = stream_arrivals(streams, period, 10 * bench.pace, bench.seed)
            load = open_loop(bench.client, mixed(whole, [name]), arrivals)
            live = runs[f"{name}, {streams} live streams"] = Report.of(*await bench.measure(load))
            figures[name] = {
                "streams_per_core": saturated.audio_seconds_per_second / bench.cores,
                "audio_per_processor_second": sum(answered) / max(processor[name], 1e-9),
                "live_streams": streams,
                "live_p50": live.latency_p50 or 0.0,
                "live_p99": live.latency_p99 or 0.0,
                "live_shed": live.shed,
            }
    return Result("capacity", runs, figures, watch.memory)


async def overload(bench: Bench) -> Result:
    """The default model at 80% of what it can do, and at 10 times as much as it can do, before and after each other."""
    asks = mixed(bench.clips)
    usual: list[Sample] = []
    usual_seconds = 0.0
    async with watching(bench.client) as watch:
        bench.tell("overload: what the service can do")
        most = await bench.capacity(asks, 8)
        for number in range(2):
            bench.tell(f"overload: {_USUAL_LOAD:.0%} of {most:.1f} requests a second")
            arrivals = bench.arrivals(_USUAL_LOAD * most, 25, number)
            found, taken = await bench.measure(open_loop(bench.client, asks, arrivals))
            usual += found
            usual_seconds += taken
            if number == 0:
                bench.tell(f"overload: {_OVERLOAD} times {most:.1f} requests a second")
                arrivals = bench.arrivals(_OVERLOAD * most, 25)
                loaded, loaded_seconds = await bench.measure(open_loop(bench.client, asks, arrivals))
    before, after = Report.of(usual, usual_seconds), Report.of(loaded, loaded_seconds)
    return Result(
        "overload",
        {f"{_USUAL_LOAD:.0%} load": before, f"{_OVERLOAD} x overload": after},
        {"default": {"requests_per_second": most, "answered_under_overload": after.ok / loaded_seconds}},
        watch.memory,
        _ratio(after.latency_p99, before.latency_p99),
        OVERLOAD_LIMIT,
    )


async def job_beside(
    bench: Bench, *, parent: str = "tfkaldi-dense", method: str = "deepthin", size: float = 0.02
) -> Result:
    """The default model at half of what it can do, without and with compression jobs beside it, taking turns."""
    asks = mixed(bench.clips)
    alone: list[Sample] = []
    beside: list[Sample] = []
    seconds = [0.0, 0.0]
    ended = 0
    held = 0.0
    async with watching(bench.client) as watch:
        bench.tell("job-beside: what the service can do")
        rate = _BESIDE_LOAD * await bench.capacity(asks, 6)
        # A p95 of 400 answers differs by a tenth from one such run to the next.
        for number in range(4):
            arrivals = bench.arrivals(rate, 20, number)
            bench.tell(f"job-beside: {rate:.1f} requests a second, no job")
            found, taken = await bench.measure(open_loop(bench.client, asks, arrivals))
            alone += found
            seconds[0] += taken
            bench.tell(f"job-beside: {rate:.1f} requests a second, and a job")
            async with running_jobs(bench.client, parent, method, size) as jobs:
                held -= await held_seconds(bench.client)
                found, taken = await bench.measure(open_loop(bench.client, asks, arrivals))
                held += await held_seconds(bench.client)
            ended += jobs.ended
            beside += found
            seconds[1] += taken
    before, after = Report.of(alone, seconds[0]), Report.of(beside, seconds[1])
    return Result(
        "job-beside",
        {"no job": before, "a job beside": after},
        {"default": {"requests_per_second": rate, "jobs_ended": ended, "worker_held": held / seconds[1]}},
        watch.memory,
        _ratio(after.latency_p95, before.latency_p95),
        JOB_LIMIT,
    )


SCENARIOS: Final[dict[str, Callable[[Bench], Awaitable[Result]]]] = {
    "capacity": capacity,
    "overload": overload,
    "job-beside": job_beside,
}


def _ratio(after: float | None, before: float | None) -> float | None:
    return None if after is None or not before else after / before


async def _ready_models(client: httpx.AsyncClient) -> list[str]:
    models = (await client.get("/models")).raise_for_status().json()["models"]
    ready = [model for model in models if model["state"] == "ready"]
    if not ready:
        raise ScenarioError("no model is ready")
    # Each dense parent, then what was made of it.
    ready.sort(key=lambda model: (model["parent"] or model["name"], -(model["resident_bytes"] or 0)))
    return [model["name"] for model in ready]
