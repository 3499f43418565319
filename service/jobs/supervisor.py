"""Runs the jobs of one home, one at a time, in worker processes; hands what they made to the models."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from service.errors import ModelExistsError, TooManyModelsError
from service.jobs.courtesy import Courtesy
from service.jobs.folders import LOG, FileLock, JobFolders
from service.jobs.process import WorkerProcess, worker_environment, worker_settings
from service.jobs.record import Job, JobState
from service.jobs.store import JobStore
from service.jobs.worker import DONE, NOTHING_TO_DO
from service.keeper import ModelKeeper, Product
from service.metrics import Metrics
from service.origin import Origin, Placement
from service.settings import Settings

logger = logging.getLogger(__name__)

WORKER: Final = (sys.executable, "-m", "service.jobs.worker")

_POLL_SECONDS = 0.2
_IDLE_SECONDS = 1.0
_LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class _End:
    """How a worker ended: its exit code, or why it was stopped."""

    code: int | None = None
    stopped: str = ""


@dataclass(slots=True)
class Supervisor:
    """Runs jobs for as long as `run` runs.

    Attributes:
        store: the jobs.
        folders: their folders.
        keeper: takes the models that they make.
        metrics: told of everything.
        settings: limits.
        courtesy: what workers owe to requests.
        command: the worker, without the job's id.
    """

    store: JobStore
    folders: JobFolders
    keeper: ModelKeeper
    metrics: Metrics
    settings: Settings
    courtesy: Courtesy
    command: Sequence[str] = WORKER
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: FileLock | None = None

    def wake(self) -> None:
        """Have a look at the jobs now."""
        self._wake.set()

    def claim(self) -> bool:
        """Take the right to run the jobs of this home, and put right what its last holder left.

        Another service may have it. When that ends, this one gets it.
        """
        if self._lock is None:
            lock = self.folders.supervisor_lock()
            if lock.acquire(wait=False):
                self._lock = lock
                self.keeper.recover()
                jobs = self.store.states()
                self.folders.sweep(set(jobs))
                for job_id, state in jobs.items():
                    if state.final:
                        self.folders.strip(job_id)
        return self._lock is not None

    def release(self) -> None:
        """Give that right back."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    async def run(self) -> None:
        """Run jobs until cancelled; a worker that runs then is ended, and its job goes on with the next supervisor."""
        while not await asyncio.to_thread(self.claim):
            await self._pause(_IDLE_SECONDS)
        try:
            while True:
                try:
                    job = await asyncio.to_thread(self.store.next)
                    if job is not None:
                        await self._run(job)
                    else:
                        await self._pause(_IDLE_SECONDS)
                except Exception:
                    # Most likely the disk is full, or the file locked for too long: neither lasts for ever.
                    logger.exception("the jobs cannot go on for now")
                    await asyncio.sleep(_LONGEST_PAUSE)
        finally:
            self.release()

    async def _run(self, job: Job) -> None:
        logger.info("job started", extra={"job": job.id, "model": job.model})
        if job.started is None:
            self.metrics.job_queue_seconds.observe(max(0.0, time.time() - job.created))
        else:
            self.metrics.worker_restarts.labels("service").inc()
        await asyncio.to_thread(self.store.start, job.id)
        current = await self._current(job)
        stages = self.folders.finished_stages(job.id)
        while not current.state.final and current.outcome is None and not current.cancelling:
            end = await self._work(current)
            current = await self._current(job)
            if current.state.final or current.outcome is not None or current.cancelling:
                break
            if end.stopped:
                await self._finish(current, JobState.FAILED, end.stopped)
            else:
                before, stages = stages, self.folders.finished_stages(job.id)
                await self._after_death(current, end, again=stages == before)
            current = await self._current(job)
        if not current.state.final:
            if current.cancelling:
                await self._finish(current, JobState.CANCELLED, "cancelled")
            else:
                await self._deliver(current)
        await self._close(await self._current(job))

    async def _work(self, job: Job) -> _End:
        """Let one worker do the job until it ends or must be stopped."""
        folder = self.folders.of(job.id)
        if not folder.is_dir():
            return _End(stopped="the folder of the job is gone")
        worker = await WorkerProcess.start(
            (*self.command, job.id, "--parent", str(os.getpid())),
            environment=worker_environment(self.settings.job_threads, **worker_settings(self.settings)),
            log=folder / LOG,
            hear=partial(self._hear, job),
        )
        deadline = time.monotonic() + self.settings.job_seconds
        self.metrics.worker_memory.set_function(worker.resident_bytes)
        stage = job.stage
        try:
            async with self.courtesy.shown_by(worker):
                while True:
                    code = await worker.wait(_POLL_SECONDS)
                    if code is not None:
                        return _End(code=code)
                    current = await self._current(job)
                    if current.cancelling:
                        worker.kill()
                        # It does nothing from now on: nobody has to wait until it is gone.
                        await self._finish(current, JobState.CANCELLED, "cancelled")
                        return _End(stopped="cancelled")
                    if current.stage != stage:
                        stage = current.stage
                        logger.info("job stage", extra={"job": job.id, "stage": stage})
                    if time.monotonic() > deadline:
                        return _End(stopped=f"it took longer than {self.settings.job_seconds:g} seconds")
        finally:
            # A service that shuts down must not leave its worker behind.
            await worker.stop()
            self.metrics.worker_memory.set_function(lambda: 0)

    async def _hear(self, job: Job, message: Mapping[str, Any]) -> None:
        """Put what a worker says into the store."""
        if (progress := message.get("progress")) is not None:
            await asyncio.to_thread(self.store.progress, job.id, **progress)
        if (outcome := message.get("outcome")) is not None:
            await asyncio.to_thread(self.store.give_outcome, job.id, outcome)
        if (reason := message.get("failed")) is not None:
            await self._finish(job, JobState.FAILED, reason)

    async def _after_death(self, job: Job, end: _End, *, again: bool) -> None:
        assert end.code is not None
        if end.code in (DONE, NOTHING_TO_DO):
            reason = "its worker ended without a result"
        else:
            reason = (
                f"its worker was ended by signal {-end.code}" if end.code < 0 else f"its worker crashed ({end.code})"
            )
        deaths = await asyncio.to_thread(self.store.died, job.id, again=again)
        self.metrics.worker_restarts.labels("killed" if end.code < 0 else "crashed").inc()
        logger.warning("job worker ended", extra={"job": job.id, "stage": job.stage, "reason": reason, "times": deaths})
        if deaths >= self.settings.job_attempts:
            place = f" in stage {job.stage}" if job.stage else ""
            await self._finish(job, JobState.FAILED, f"{reason}, {deaths} times in a row{place}")
        else:
            await self._pause(min(0.1 * 2**deaths, _LONGEST_PAUSE))

    async def _deliver(self, job: Job) -> None:
        """Put what the pipeline made among the models."""
        assert job.outcome is not None
        folder = self.folders.of(job.id)
        product = Product(*(folder / job.outcome[name] for name in ("package", "transport", "report")))
        accepted, reasons = bool(job.outcome["accepted"]), tuple(job.outcome["reasons"])
        if not accepted:
            origin = Origin(job.id, Placement.QUARANTINED, reasons)
        elif not job.spec.get("host", True):
            origin = Origin(job.id, Placement.STORED, ("it was made with host: false",))
        else:
            origin = Origin(job.id, Placement.HOSTED)
        note = ""
        try:
            try:
                installed = await self.keeper.install(product, origin, replace=job.replace)
            except TooManyModelsError as error:
                note = f"not hosted: {error}"
                origin = Origin(job.id, Placement.STORED, (str(error),))
                installed = await self.keeper.install(product, origin, replace=job.replace)
        except ModelExistsError as error:
            await self._finish(job, JobState.FAILED, str(error))
            return
        except Exception as error:
            # Whatever the network does when it is loaded must not end the supervisor.
            logger.exception("job's model cannot be hosted", extra={"job": job.id, "model": job.model})
            await self._finish(job, JobState.FAILED, f"the model cannot be hosted: {type(error).__name__}: {error}")
            return
        if installed.name != job.model:
            await asyncio.to_thread(self.store.rename, job.id, installed.name)
        state = JobState.SUCCEEDED if accepted else JobState.QUARANTINED
        await self._finish(job, state, note if accepted else "; ".join(reasons), hosted=installed.hosted)

    async def _finish(self, job: Job, state: JobState, reason: str, *, hosted: bool = False) -> None:
        await asyncio.to_thread(self.store.finish, job.id, state, reason, hosted=hosted)

    async def _close(self, job: Job) -> None:
        seconds = (job.finished or 0) - (job.started or 0)
        end = {"model": job.model, "state": job.state.value, "reason": job.reason, "seconds": seconds}
        logger.info("job ended", extra={"job": job.id, **end})
        await asyncio.to_thread(self.folders.strip, job.id)
        for gone in await asyncio.to_thread(self.store.forget, self.settings.jobs_kept):
            await asyncio.to_thread(self.folders.remove, gone)
        stages = await asyncio.to_thread(self.store.stage_seconds, job.id)
        self.metrics.observe_job(job.method, job.state, seconds, stages)

    async def _current(self, job: Job) -> Job:
        current = await asyncio.to_thread(self.store.get, job.id)
        assert current is not None, "a job that has not ended is never forgotten"
        return current

    async def _pause(self, seconds: float) -> None:
        # Not wait_for: up to Python 3.11 it swallows a cancellation in the moment in which the event is set.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
