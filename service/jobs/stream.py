"""Events of one job as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from service.jobs.record import JobEvent
from service.jobs.store import JobStore

_POLL_SECONDS = 0.2
_HEARTBEAT_SECONDS = 10.0
# How long a browser waits before it connects again, in milliseconds.
_RETRY = b"retry: 2000\n\n"


async def server_sent_events(
    store: JobStore, job_id: str, *, after: int, stopping: asyncio.Event, heartbeat: float = _HEARTBEAT_SECONDS
) -> AsyncIterator[bytes]:
    """Every event of the job with an id above `after`, as it happens; the last one names the final state.

    Args:
        store: where the events are.
        job_id: whose they are.
        after: id of the last event that the client has.
        stopping: ends the stream; the client then connects again, to the next service.
        heartbeat: seconds of silence after which a comment shows that both ends are there.
    """
    yield _RETRY
    spoken = time.monotonic()
    while not stopping.is_set():
        # Asked first: a job that has ended gets no more events afterwards.
        job = await asyncio.to_thread(store.get, job_id)
        events = await asyncio.to_thread(store.events, job_id, after)
        for event in events:
            after, spoken = event.id, time.monotonic()
            yield _encode(event)
        if not events:
            if job is None or job.state.final:
                return
            if time.monotonic() - spoken >= heartbeat:
                spoken = time.monotonic()
                yield b": heartbeat\n\n"
            await asyncio.sleep(_POLL_SECONDS)


def _encode(event: JobEvent) -> bytes:
    data = {**event.data, "time": round(event.time, 3)}
    if "fraction" in data:
        data["percentage"] = round(100 * data.pop("fraction"), 1)
    # JSON has no bare line ends, which would end the event.
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n".encode()
