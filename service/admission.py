"""Who may wait: a queue bounded by requests and by the seconds of audio in them, and what the others are told."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import OverloadedError
from service.metrics import Metrics

# Of what was measured before, this share is kept with every answer; some twenty answers make the speed.
_KEPT: Final = 0.95
_LONGEST_RETRY: Final = 60


class Place:
    """A request's place in the queue."""

    def __init__(self, admission: Admission, seconds: float) -> None:
        self._admission = admission
        self.seconds = 0.0
        self.measure(seconds)

    def measure(self, seconds: float) -> None:
        """Say that the request holds `seconds` of audio, now that it is known better than by a guess."""
        # A recording keeps one thread busy, however long it is, and must leave the others' share to others.
        counted = min(seconds, self._admission.thread_seconds)
        self._admission.count(counted - self.seconds)
        self.seconds = counted


class Admission:
    """The bounded queue; used from one event loop.

    A request is admitted while fewer than `capacity` requests and less than `thread_seconds` x `threads` seconds of
    audio are accepted and not yet answered. Clients that are refused are told how long what waits will take, judged by
    the speed of the last answers.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        capacity: int,
        threads: int,
        thread_seconds: float,
        retry_after: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            metrics: where the backlog and shed requests are counted.
            capacity: most requests admitted at once.
            threads: threads that work on them.
            thread_seconds: most seconds of audio admitted at once, for each thread.
            retry_after: shortest time that refused clients are told to wait, in seconds.
            clock: seconds from any start.
        """
        self._metrics = metrics
        self._capacity = capacity
        self._most_seconds = thread_seconds * threads
        self.thread_seconds = thread_seconds
        self._retry_after = retry_after
        self._clock = clock
        self._admitted = 0
        self._seconds = 0.0
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._busy_since = 0.0
        self._busy_seconds = 0.0
        self._answered_seconds = 0.0
        metrics.queue_capacity.set(capacity)
        metrics.queue_audio_capacity.set(self._most_seconds)

    @property
    def admitted(self) -> int:
        """Requests accepted and not yet answered."""
        return self._admitted

    @property
    def seconds(self) -> float:
        """Seconds of audio in them, as far as they count."""
        return self._seconds

    def require_room(self) -> None:
        """Refuse now if `admit` would.

        Raises:
            OverloadedError: the queue is full, or the service is shutting down.
        """
        if self._closing:
            self._shed("shutting_down", "the service is shutting down")
        if self._admitted >= self._capacity:
            self._shed("queue_full", f"all {self._capacity} places in the queue are taken; try again later")
        if self._seconds >= self._most_seconds:
            self._shed("backlog", f"{self._seconds:.0f} seconds of audio wait already; try again later")

    @contextmanager
    def admit(self, seconds: float = 0.0) -> Iterator[Place]:
        """Hold a place in the queue for a request with about `seconds` of audio.

        Raises:
            OverloadedError: as `require_room`.
        """
        self.require_room()
        if not self._admitted:
            self._busy_since = self._clock()
        self._set_admitted(self._admitted + 1)
        place = Place(self, seconds)
        try:
            yield place
        finally:
            self._learn(place.seconds)
            place.measure(0.0)
            self._set_admitted(self._admitted - 1)

    def close(self) -> None:
        """Refuse everything from now on."""
        self._closing = True

    async def drained(self) -> None:
        """Return when every request that was admitted is answered."""
        await self._empty.wait()

    def count(self, seconds: float) -> None:
        """Add `seconds` of audio to what waits."""
        # Sums of floats do not come back to zero by themselves.
        self._seconds = max(0.0, self._seconds + seconds) if self._admitted else 0.0
        self._metrics.queue_audio_seconds.set(self._seconds)

    def retry_after(self) -> int:
        """Whole seconds until what waits now is likely to be answered, within reason."""
        if not self._answered_seconds:
            return self._retry_after
        seconds = self._seconds * self._busy_seconds / self._answered_seconds
        return max(self._retry_after, min(math.ceil(seconds), _LONGEST_RETRY))

    def _learn(self, seconds: float) -> None:
        now = self._clock()
        self._busy_seconds = _KEPT * self._busy_seconds + now - self._busy_since
        self._answered_seconds = _KEPT * self._answered_seconds + seconds
        self._busy_since = now

    def _shed(self, reason: str, message: str) -> None:
        self._metrics.shed.labels(reason).inc()
        raise OverloadedError(message, reason=reason, retry_after=self.retry_after())

    def _set_admitted(self, count: int) -> None:
        self._admitted = count
        self._metrics.admitted.set(count)
        if count:
            self._empty.clear()
        else:
            self._seconds = 0.0
            self._metrics.queue_audio_seconds.set(0.0)
            self._empty.set()
