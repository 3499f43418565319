"""Sends the requests and notes what became of each."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import httpx

from load_tests.target import Ask

Outcome = Literal["ok", "shed", "error"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        latency_seconds: from the moment the request was due (open loop) or sent (closed loop) to its whole
            answer. Counting from when it was due keeps a stalled service from hiding its own queue.
        outcome: "ok" is a 200, "shed" a 429 or 503, "error" everything else, lost connections and
            time-outs included.
        audio_seconds: the length of the recording as the service reports it; 0 unless "ok".
        detail: the status, or the name of the exception.
        lag_seconds: of the latency, what passed before this program got to send the request: its own fault, not the
            service's.
    """

    latency_seconds: float
    outcome: Outcome
    audio_seconds: float
    detail: str
    lag_seconds: float = 0.0


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Times in [0, seconds) of a Poisson process with `rate` arrivals a second; the seed fixes them."""
    generator = random.Random(seed)
    arrivals = []
    due = generator.expovariate(rate)
    while due < seconds:
        arrivals.append(due)
        due += generator.expovariate(rate)
    return arrivals


def stream_arrivals(streams: int, period: float, seconds: float, seed: int) -> list[float]:
    """Times in [0, seconds) at which `streams` speakers end a recording, each one every `period` seconds."""
    generator = random.Random(seed)
    starts = [generator.uniform(0, period) for _ in range(streams)]
    return sorted(due for start in starts for due in _every(period, start, seconds))


async def open_loop(client: httpx.AsyncClient, asks: Sequence[Ask], arrivals: Sequence[float]) -> list[Sample]:
    """Send a request at each arrival time, whether or not earlier ones have been answered."""
    start = time.perf_counter()

    async def arrive(due: float, request: httpx.Request) -> Sample:
        await asyncio.sleep(start + due - time.perf_counter())
        return await _send(client, request, since=start + due)

    requests = itertools.cycle(_requests(client, asks))
    return await asyncio.gather(*(arrive(due, request) for due, request in zip(arrivals, requests, strict=False)))


async def closed_loop(client: httpx.AsyncClient, asks: Sequence[Ask], clients: int, seconds: float) -> list[Sample]:
    """`clients` callers, each sending its next request as soon as its last one is answered, for `seconds`."""
    requests = _requests(client, asks)
    end = time.perf_counter() + seconds

    async def call(first: int) -> list[Sample]:
        samples = []
        for request in itertools.islice(itertools.cycle(requests), first % len(requests), None):
            samples.append(await _send(client, request, since=time.perf_counter()))
            if time.perf_counter() >= end:
                break
        return samples

    return list(itertools.chain.from_iterable(await asyncio.gather(*(call(index) for index in range(clients)))))


def _every(period: float, start: float, end: float) -> list[float]:
    return list(itertools.takewhile(lambda due: due < end, itertools.count(start, period)))


def _requests(client: httpx.AsyncClient, asks: Sequence[Ask]) -> list[httpx.Request]:
    """What is sent for each of `asks`; made once, since that takes longer than to send it."""
    return [
        client.build_request(
            "POST",
            "/transcribe",
            content=ask.clip.data,
            headers={"content-type": ask.clip.content_type},
            params={"model": ask.model} if ask.model else None,
        )
        for ask in asks
    ]


async def _send(client: httpx.AsyncClient, request: httpx.Request, *, since: float) -> Sample:
    lag = time.perf_counter() - since
    try:
        response = await client.send(request)
    except httpx.HTTPError as error:
        return Sample(time.perf_counter() - since, "error", 0.0, type(error).__name__, lag)
    latency = time.perf_counter() - since
    if response.status_code == 200:
        return Sample(latency, "ok", float(response.json()["duration_seconds"]), "200", lag)
    outcome: Outcome = "shed" if response.status_code in (429, 503) else "error"
    return Sample(latency, outcome, 0.0, str(response.status_code), lag)
