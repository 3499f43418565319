"""Work off the event loop: threads, and batches of items that may share one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

from service.admission import Admission, Place
from service.metrics import Metrics
from service.speeds import Speeds
from service.turns import TurnPool, current_turn

P = ParamSpec("P")
T = TypeVar("T")

BatchWork = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a batch gave for one item.

    Attributes:
        value: the result.
        queue_seconds: time from submission until the batch began.
        work_seconds: time of the whole batch.
        batch_size: items that shared the batch.
        first: whether this item headed the batch, for counting each batch once.
    """

    value: Any
    queue_seconds: float
    work_seconds: float
    batch_size: int
    first: bool


@dataclass(eq=False, slots=True)
class _Job:
    item: Any
    work: BatchWork
    answer: asyncio.Future[Answer]
    turn: int = field(default_factory=current_turn)
    submitted: float = field(default_factory=time.perf_counter)

    @property
    def order(self) -> tuple[int, float]:
        """What goes before what."""
        return self.turn, self.submitted


class Scheduler:
    """Threads and micro-batching behind a bounded queue; used from one event loop.

    A request is first admitted; while it holds its place it may run single jobs (`run`) and batched jobs (`submit`).
    The threads do what the request that came first has to be done, whichever of these it is. Batched jobs wait in
    lanes. A lane is served when it holds a whole batch or its oldest job has waited long enough, that of the request
    that came first before others, with at most one batch for each thread. Jobs that were cancelled are dropped.
    """

    def __init__(
        self,
        metrics: Metrics,
        admission: Admission,
        *,
        threads: int,
        batch_size: int,
        batch_wait: float,
        on_busy: Callable[[int], None] = lambda threads: None,
    ) -> None:
        """
        Args:
            metrics: where the depth is counted.
            admission: who may come in.
            threads: threads for all work.
            batch_size: most items in a batch.
            batch_wait: longest that an item waits for company, in seconds.
            on_busy: told how many threads have work to do, whenever that changes.
        """
        self._metrics = metrics
        self._threads = threads
        self._batch_size = batch_size
        self._batch_wait = batch_wait
        self._admission = admission
        self._pool = TurnPool(threads, "deepthin")
        self._lanes: dict[Hashable, deque[_Job]] = {}
        self._batches: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._on_busy = on_busy
        self._busy = 0

    @property
    def speeds(self) -> Speeds:
        """What is known of how long recordings take."""
        return self._admission.speeds

    @property
    def admitted(self) -> int:
        """Requests accepted and not yet finished."""
        return self._admission.admitted

    def come(self) -> None:
        """Note that a request has come, and refuse it now if `admit` would.

        Raises:
            OverloadedError: the queue is full, or the service is shutting down.
        """
        self._admission.come()

    def admit(self) -> AbstractContextManager[Place]:
        """Hold a place in the queue for a request.

        Raises:
            OverloadedError: as `come`.
        """
        return self._admission.admit()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
        """Call `work` in a thread; its result and the seconds it took, waiting for a thread not counted."""

        def timed() -> tuple[T, float]:
            start = time.perf_counter()
            return work(*args, **kwargs), time.perf_counter() - start

        with self._working():
            job = self._pool.submit(current_turn(), timed)
            try:
                return await asyncio.wrap_future(job)
            except asyncio.CancelledError:
                # A thread cannot be interrupted. The caller's place stays taken and its file open until then.
                if not job.done():
                    await asyncio.wait([asyncio.wrap_future(job)])
                raise

    async def submit(self, lane: Hashable, item: Any, work: BatchWork) -> Answer:
        """Have `work` called on a batch of items of the same lane; the answer for this one.

        `work` must be the same for all items of a lane and give one result for each. When a batch fails, its items are
        tried again one by one, so that only the one at fault fails.
        """
        job = _Job(item, work, asyncio.get_running_loop().create_future())
        self._lanes.setdefault(lane, deque()).append(job)
        self._pump()
        try:
            return await job.answer
        finally:
            self._update_depth()

    async def close(self, drain_seconds: float) -> None:
        """Refuse new requests, wait for those admitted, and after `drain_seconds` give up on the rest."""
        self._closing = True
        self._admission.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds):
                await self._admission.drained()
        if self._timer is not None:
            self._timer.cancel()
        for jobs in self._lanes.values():
            for job in jobs:
                job.answer.cancel()
        self._lanes.clear()
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        self._pool.shutdown()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        self._tell_busy(1)
        try:
            yield
        finally:
            self._tell_busy(-1)

    def _tell_busy(self, more: int) -> None:
        self._busy += more
        self._on_busy(min(self._busy, self._threads))

    def _update_depth(self) -> None:
        self._metrics.queue_depth.set(sum(not job.answer.done() for jobs in self._lanes.values() for job in jobs))

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self._batches) < self._threads and (jobs := self._next_batch()):
            batch = asyncio.create_task(self._run_batch(jobs))
            self._batches.add(batch)
            batch.add_done_callback(self._batch_done)
        self._update_depth()

    def _batch_done(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        if not self._closing or self._admission.admitted:
            self._pump()

    def _next_batch(self) -> list[_Job]:
        self._drop_cancelled()
        if not self._lanes:
            return []
        now = time.perf_counter()
        ripe = [
            lane
            for lane, jobs in self._lanes.items()
            if len(jobs) >= self._batch_size or now - jobs[0].submitted >= self._batch_wait
        ]
        if not ripe:
            oldest = min(jobs[0].submitted for jobs in self._lanes.values())
            self._timer = asyncio.get_running_loop().call_later(oldest + self._batch_wait - now, self._pump)
            return []
        jobs = self._lanes[min(ripe, key=lambda lane: self._lanes[lane][0].order)]
        return [jobs.popleft() for _ in range(min(len(jobs), self._batch_size))]

    def _drop_cancelled(self) -> None:
        for lane, jobs in list(self._lanes.items()):
            kept = deque(job for job in jobs if not job.answer.done())
            if kept:
                self._lanes[lane] = kept
            else:
                del self._lanes[lane]

    async def _run_batch(self, jobs: list[_Job]) -> None:
        call = partial(_work_on, jobs)
        try:
            with self._working():
                results = await asyncio.wrap_future(self._pool.submit(min(job.turn for job in jobs), call))
        except asyncio.CancelledError:
            for job in jobs:
                job.answer.cancel()
            raise
        for job, result in zip(jobs, results, strict=True):
            if job.answer.done():
                continue
            if isinstance(result, Exception):
                job.answer.set_exception(result)
            else:
                job.answer.set_result(result)


def _work_on(jobs: Sequence[_Job]) -> list[Answer | Exception]:
    start = time.perf_counter()
    try:
        values = jobs[0].work([job.item for job in jobs])
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        return [_work_on([job])[0] for job in jobs]
    seconds = time.perf_counter() - start
    return [
        Answer(value, start - job.submitted, seconds, len(jobs), first=job is jobs[0])
        for job, value in zip(jobs, values, strict=True)
    ]
