"""Events of one job as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.jobs.record import JobEvent
from service.jobs.store import JobStore

_POLL_SECONDS = 0.2
_HEARTBEAT_SECONDS = 10.0
# How long a browser waits before it connects again, in milliseconds.
_RETRY = b"retry: 2000\n\n"


class EventStreams:
    """The streams that are open.

    Attributes:
        open: how many.
        most: how many may be, or 503 is the answer.
    """

    def __init__(self, most: int) -> None:
        self.open = 0
        self.most = most

    @property
    def full(self) -> bool:
        """Whether no further one may be opened."""
        return self.open >= self.most


class EventStream(StreamingResponse):
    """A stream of events that counts for as long as it is being sent, however that ends."""

    def __init__(self, events: AsyncIterator[bytes], streams: EventStreams) -> None:
        # The second header is for proxies that would otherwise wait until there is more.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self._streams.open += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1


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
