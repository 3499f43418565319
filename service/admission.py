"""Who may wait: a queue bounded by the time that a recording would wait in it, and what the others are told."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.errors import OverloadedError
from service.metrics import Metrics
from service.speeds import Speeds
from service.turns import take_turn

_LONGEST_RETRY: Final = 60
# Bodies that take longer keep nobody else out meanwhile.
_UPLOAD_SECONDS: Final = 2.0
# So many requests, so many times as fast as they can be answered, are a crowd. At a load that can be borne, 80%, chance
# makes one request in three hundred the last of one.
_CROWD: Final = 8
_CROWD_SPEED: Final = 3.0


class Place:
    """A request's place in the queue, from before its body is read until its answer."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = False
        self._work = 0.0
        self._take()
        self._timer = asyncio.get_running_loop().call_later(_UPLOAD_SECONDS, self.release)

    def arrived(self) -> None:
        """Say that the body has been read: from now on it is the turn of the current task before later ones.

        Raises:
            OverloadedError: that took so long that the place had to be given up, and now there is no room.
        """
        self._timer.cancel()
        if not self._held:
            self._admission.require_room()
            self._take()
        take_turn()

    def expect(self, work_seconds: float) -> None:
        """Say that the request makes `work_seconds` of work, now that it is known better than by a guess."""
        # A recording keeps one thread busy, however long it is, and must leave the others' share to others.
        counted = min(work_seconds, self._admission.longest_wait)
        self._admission.count(counted - self._work)
        self._work = counted

    def done(self, model: object, audio_seconds: float, work_seconds: float) -> None:
        """Say that an answer of `model` is there, which took `work_seconds` of work."""
        self._admission.answered(model, audio_seconds, work_seconds)

    def release(self) -> None:
        """Give the place up."""
        self._timer.cancel()
        if self._held:
            self._held = False
            self.expect(0.0)
            self._admission.leave()

    def _take(self) -> None:
        self._held = True
        self._admission.enter()
        self.expect(self._admission.speeds.usual_work)


class Admission:
    """The bounded queue; used from one event loop.

    While one of the threads is free, everybody is admitted. Further requests are as long as fewer than `capacity` are
    accepted and not yet answered, and as one that came last would wait for less than `wait_seconds`, or for less than
    `burst` recordings of the usual length take. The wait is that of the work that is left, as `speeds` has learnt it,
    shared among the threads.

    While requests come far faster than they can be answered, half of that wait is the limit: most are refused whatever
    it is, so that a long queue would only make the others late. What chance heaps up needs the whole of it, and is gone
    before long.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        capacity: int,
        threads: int,
        wait_seconds: float,
        burst: int,
        retry_after: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            metrics: where the backlog and shed requests are counted.
            capacity: most requests admitted at once.
            threads: threads that work on them.
            wait_seconds: longest expected wait with which requests are admitted.
            burst: recordings of the usual length that may wait, however long that takes.
            retry_after: shortest time that refused clients are told to wait, in seconds.
            clock: seconds from any start.
        """
        self.speeds = Speeds()
        self._metrics = metrics
        self._capacity = capacity
        self._threads = threads
        self._wait_seconds = wait_seconds
        self._burst = burst
        self._retry_after = retry_after
        self._admitted = 0
        self._work = 0.0
        self._clock = clock
        # When something began to wait for a thread, or an answer was there and something still waited.
        self._waiting_since: float | None = None
        self._arrivals: deque[float] = deque(maxlen=_CROWD)
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()
        metrics.queue_capacity.set(capacity)
        metrics.queue_wait_limit.set_function(lambda: self.limit)

    @property
    def admitted(self) -> int:
        """Requests accepted and not yet answered."""
        return self._admitted

    @property
    def wait(self) -> float:
        """Seconds that one that came now would wait, as far as is known."""
        return self.speeds.overhead * self._work / self._threads

    @property
    def longest_wait(self) -> float:
        """Seconds of `wait` from which on requests are refused, unless they come in crowds."""
        return max(self._wait_seconds, self._burst * self.speeds.usual_work / self._threads)

    @property
    def crowded(self) -> bool:
        """Whether the last requests came far faster than they can be answered."""
        if len(self._arrivals) < _CROWD:
            return False
        answering = (_CROWD - 1) * self.speeds.usual_work / self._threads
        return self._clock() - self._arrivals[0] < answering / _CROWD_SPEED

    @property
    def limit(self) -> float:
        """Seconds of `wait` from which on requests are refused now."""
        return self.longest_wait / 2 if self.crowded else self.longest_wait

    def come(self) -> None:
        """Note that a request has come, and refuse it now if `admit` would.

        Raises:
            OverloadedError: as `require_room`.
        """
        self._arrivals.append(self._clock())
        self.require_room()

    def require_room(self) -> None:
        """Refuse now if `admit` would.

        Raises:
            OverloadedError: the queue is full, or the service is shutting down.
        """
        if self._closing:
            self._shed("shutting_down", "the service is shutting down")
        if self._admitted >= self._capacity:
            self._shed("queue_full", f"all {self._capacity} places in the queue are taken; try again later")
        if self._admitted >= self._threads and self.wait >= self.limit:
            self._shed("backlog", f"{self.wait:.1f} seconds of work wait already; try again later")

    @contextmanager
    def admit(self) -> Iterator[Place]:
        """Hold a place in the queue for a request.

        Raises:
            OverloadedError: as `require_room`.
        """
        self.require_room()
        place = Place(self)
        try:
            yield place
        finally:
            place.release()

    def close(self) -> None:
        """Refuse everything from now on."""
        self._closing = True

    async def drained(self) -> None:
        """Return when every request that was admitted is answered."""
        await self._empty.wait()

    def retry_after(self) -> int:
        """Whole seconds until what waits now is likely to be answered, within reason."""
        return max(self._retry_after, min(math.ceil(self.wait), _LONGEST_RETRY))

    def enter(self) -> None:
        """Count one request more."""
        self._set_admitted(self._admitted + 1)

    def leave(self) -> None:
        """Count one request less."""
        self._set_admitted(self._admitted - 1)

    def answered(self, model: object, audio_seconds: float, work_seconds: float) -> None:
        """Learn from an answer."""
        calm = not self.crowded and self.wait < self.longest_wait / 2
        self.speeds.learn(model, audio_seconds, work_seconds, calm=calm)
        if self._waiting_since is not None:
            now = self._clock()
            self.speeds.observe(self._threads * (now - self._waiting_since), work_seconds)
            self._waiting_since = now

    def count(self, work_seconds: float) -> None:
        """Add `work_seconds` to what is left to do."""
        # Sums of floats do not come back to zero by themselves.
        self._work = max(0.0, self._work + work_seconds) if self._admitted else 0.0
        self._metrics.queue_wait.set(self.wait)

    def _shed(self, reason: str, message: str) -> None:
        self._metrics.shed.labels(reason).inc()
        raise OverloadedError(message, reason=reason, retry_after=self.retry_after())

    def _set_admitted(self, count: int) -> None:
        self._admitted = count
        self._metrics.admitted.set(count)
        if count <= self._threads:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._clock()
        if count:
            self._empty.clear()
        else:
            self.count(0.0)
            self._empty.set()
