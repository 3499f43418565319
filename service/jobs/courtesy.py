"""Holds the worker of a job while requests need the processor.

That the kernel gives the worker only what is left over is not enough: what is left over is often the other half of the
core that a request runs on, and the worker fills the caches that they share.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from service.background import background
from service.metrics import Metrics

# The stages of a request are not far apart: no need to let the worker go on in between.
_CALM_SECONDS: Final = 0.02
# A service that is never calm still lets its jobs go on a little, and a worker never keeps a lock for long.
_LONGEST_SECONDS: Final = 2.0
_TURN_SECONDS: Final = 0.1


class Holdable(Protocol):
    """Something that runs and can be made to stand still."""

    def hold(self) -> None:
        """Stand still."""
        ...

    def release(self) -> None:
        """Go on."""
        ...


class Courtesy:
    """Told how much work for requests is going on; used from one event loop."""

    def __init__(self, metrics: Metrics, *, cores: int, job_threads: int, wanted: bool) -> None:
        """Hold workers of `job_threads` threads on a machine of `cores` processors, if that is `wanted`."""
        self._metrics = metrics
        self._cores = cores
        self._job_threads = job_threads
        self._wanted = wanted
        self._crowded = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._timer: asyncio.TimerHandle | None = None

    def busy(self, threads: int) -> None:
        """So many threads work for requests now."""
        # Up to half of the processors, kernels find each thread a core of its own.
        crowded = threads > 0 and 2 * (threads + self._job_threads) > self._cores
        if crowded == self._crowded.is_set():
            return
        if crowded:
            self._crowded.set()
            self._calm.clear()
            if self._timer is not None:
                self._timer.cancel()
        else:
            self._crowded.clear()
            self._timer = asyncio.get_running_loop().call_later(_CALM_SECONDS, self._calm.set)

    def shown_by(self, worker: Holdable) -> AbstractAsyncContextManager[None]:
        """Let `worker` stand back for as long as the context lasts; it runs when that ends."""
        return background(lambda: self._mind(worker), wanted=self._wanted)

    async def _mind(self, worker: Holdable) -> None:
        while True:
            await self._crowded.wait()
            start = time.perf_counter()
            worker.hold()
            try:
                # Not wait_for: up to Python 3.11 it swallows a cancellation in the moment in which the event is set.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_SECONDS):
                        await self._calm.wait()
            finally:
                worker.release()
                self._metrics.worker_held.inc(time.perf_counter() - start)
            if not self._calm.is_set():
                await asyncio.sleep(_TURN_SECONDS)
