"""Memory and processor time of the service under load, as its own metrics tell them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

_SERVICE = "deepthin_process_resident_memory_bytes"
_WORKER = "deepthin_job_worker_resident_memory_bytes"
_PROCESSOR = "deepthin_process_cpu_seconds_total"
_HELD = "deepthin_job_worker_held_seconds_total"
# Reading all of them would take tens of milliseconds from the requests that are due meanwhile.
_WANTED = tuple(f"{name} " for name in (_SERVICE, _WORKER, _PROCESSOR, _HELD))


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory at one moment.

    Attributes:
        at: seconds since the watch began.
        service: bytes of the service.
        worker: bytes of the worker of a compression job; 0 while none runs.
    """

    at: float
    service: int
    worker: int


@dataclass(slots=True)
class Watch:
    """What was seen; `memory` grows while the watch lasts."""

    memory: list[Memory] = field(default_factory=list)


@asynccontextmanager
async def watching(client: httpx.AsyncClient, every: float = 0.5) -> AsyncIterator[Watch]:
    """Note the memory of the service every so many seconds for as long as the context lasts."""
    watch = Watch()
    task = asyncio.create_task(_look(client, watch, every))
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def processor_seconds(client: httpx.AsyncClient) -> float:
    """Processor time that the service has used so far, all of its threads together.

    Raises:
        httpx.HTTPError: its metrics cannot be read.
        KeyError: they do not tell.
    """
    return (await _values(client))[_PROCESSOR]


async def held_seconds(client: httpx.AsyncClient) -> float:
    """Seconds for which workers of jobs have stood still so far, to leave the processor to requests.

    Raises:
        httpx.HTTPError: the metrics cannot be read.
    """
    return (await _values(client)).get(_HELD, 0.0)


async def _look(client: httpx.AsyncClient, watch: Watch, every: float) -> None:
    start = time.perf_counter()
    while True:
        # A scrape that is late or lost is a point less in a picture.
        with contextlib.suppress(httpx.HTTPError):
            values = await _values(client)
            if _SERVICE in values:
                at = time.perf_counter() - start
                watch.memory.append(Memory(at, int(values[_SERVICE]), int(values.get(_WORKER, 0))))
        await asyncio.sleep(every)


async def _values(client: httpx.AsyncClient) -> dict[str, float]:
    response = await client.get("/metrics")
    response.raise_for_status()
    lines = (line.split() for line in response.text.splitlines() if line.startswith(_WANTED))
    return {name: float(value) for name, value in lines}
