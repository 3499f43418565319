"""What the routes ask of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Final

from starlette.requests import Request

from ops.errors import DeepThinError
from service.errors import (
    JobFinishedError,
    JobsUnavailableError,
    ModelExistsError,
    NoReportError,
    OverloadedError,
    UnknownJobError,
)
from service.hub import Hub
from service.jobs.corpora import Corpora
from service.jobs.courtesy import Courtesy
from service.jobs.fields import CHECKPOINT, SPEC
from service.jobs.folders import REPORT, RESULT, JobFolders
from service.jobs.inspection import INSPECTOR, Inspection
from service.jobs.record import Job, JobState, new_id
from service.jobs.store import JobStore, NameTakenError, QueueFullError
from service.jobs.stream import EventStream, EventStreams, server_sent_events
from service.jobs.submission import check_parts, method_of, read_spec, suggested_name
from service.jobs.supervisor import WORKER, Supervisor
from service.jobs.uploads import receive_form
from service.keeper import ModelKeeper
from service.metrics import Metrics
from service.settings import Settings

logger = logging.getLogger(__name__)

# How long a client waits for the end of a job that it cancelled.
_CANCEL_SECONDS: Final = 2.0
_RETRY_AFTER: Final = 30
_REFRESH_SECONDS = 1.0
_ATTEMPTS_AT_A_NAME = 10
_QUEUE_FULL: Final = "as many compression jobs wait as may wait"


class JobService:
    """Accepts, lists and cancels jobs, and runs the supervisor."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        keeper: ModelKeeper,
        metrics: Metrics,
        courtesy: Courtesy,
        *,
        worker: Sequence[str] = WORKER,
        inspector: Sequence[str] = INSPECTOR,
    ) -> None:
        """`worker` is the command that does one job, without the job's id; `inspector` looks into an upload."""
        self.stopping = asyncio.Event()
        self.folders = JobFolders(settings.home / "jobs")
        self._settings = settings
        self._hub = hub
        self._keeper = keeper
        self._metrics = metrics
        self.corpora = Corpora(settings.corpus_folders)
        self._inspection = Inspection(settings, inspector)
        self._uploads = 0
        self._streams = EventStreams(settings.max_event_streams)
        self._store: JobStore | None = None
        self._supervisor: Supervisor | None = None
        self._reason = "the service is starting"
        try:
            self._store = JobStore(self.folders.root)
            self._supervisor = Supervisor(
                self._store, self.folders, keeper, metrics, settings, courtesy, command=tuple(worker)
            )
            # Before any model is read: a killed service may have left one between two names.
            self._supervisor.claim()
        except (DeepThinError, OSError) as error:
            # On a disk that cannot be written, what can be transcribed still is.
            logger.warning("no compression jobs: %s", error)
            self._reason = str(error)
            self.close()

    def close(self) -> None:
        """Close the store, without anything that runs."""
        if self._supervisor is not None:
            self._supervisor.release()
            self._supervisor = None
        if self._store is not None:
            self._store.close()
            self._store = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run jobs in the background for as long as the context lasts."""
        self._metrics.jobs_capacity.set(self._settings.max_queued_jobs)
        tasks = []
        if self._supervisor is not None:
            tasks = [asyncio.create_task(self._supervisor.run()), asyncio.create_task(self._count())]
        try:
            yield
        finally:
            self.stopping.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    @property
    def store(self) -> JobStore:
        """The jobs.

        Raises:
            JobsUnavailableError: the folder of jobs cannot be used.
        """
        if self._store is None:
            raise JobsUnavailableError(f"compression jobs are not to be had here: {self._reason}")
        return self._store

    async def submit(self, request: Request, *, replace: bool) -> Job:
        """Accept the job in the form of `request`; it is on the disk when this returns.

        Raises:
            ServiceError: the form cannot be read, is wrong, or comes at a bad time.
        """
        store = self.store
        waiting = (await asyncio.to_thread(store.counts))[JobState.QUEUED]
        if waiting + self._uploads >= self._settings.max_queued_jobs:
            raise self._overloaded(_QUEUE_FULL, "jobs_full")
        self._uploads += 1
        try:
            with self.folders.draft() as draft:
                parts = await receive_form(request, draft, self._settings)
                spec = await asyncio.to_thread(read_spec, parts)
                await asyncio.to_thread(check_parts, parts, spec, self.corpora)
                if spec.name is not None:
                    self._require_name(spec.name, replace=replace)
                if spec.host:
                    self._hub.require_room(spec.name if replace else None)
                # Corpora that were uploaded are named in it, whether the form did or not.
                parts[SPEC].file.write_text(spec.model_dump_json(), encoding="utf-8")
                await self._inspection.require_sound(draft)
                parts[SPEC].file.unlink()
                for _ in range(_ATTEMPTS_AT_A_NAME):
                    name = spec.name or await self._free_name(suggested_name(spec, parts[CHECKPOINT].filename))
                    named = spec.model_copy(update={"name": name})
                    job = Job(
                        id=new_id(),
                        model=name,
                        method=method_of(spec),
                        state=JobState.QUEUED,
                        spec=named.model_dump(mode="json"),
                        replace=replace,
                        created=time(),
                    )
                    try:
                        await asyncio.to_thread(self._register, job, draft)
                        break
                    except NameTakenError as error:
                        if spec.name is not None:
                            raise ModelExistsError(str(error), param="spec.name") from error
                else:
                    raise self._overloaded(_QUEUE_FULL, "jobs_full")
        except QueueFullError as error:
            raise self._overloaded(_QUEUE_FULL, "jobs_full") from error
        finally:
            self._uploads -= 1
        logger.info("job accepted", extra={"job": job.id, "model": job.model, "method": job.method})
        if self._supervisor is not None:
            self._supervisor.wake()
        return job

    async def jobs(self, *, state: JobState | None, limit: int) -> Sequence[Job]:
        """Jobs, the newest first."""
        return await asyncio.to_thread(self.store.jobs, state=state, limit=limit)

    async def get(self, job_id: str) -> Job:
        """The job `job_id`.

        Raises:
            UnknownJobError: there is none.
        """
        job = await asyncio.to_thread(self.store.get, job_id)
        if job is None:
            raise UnknownJobError(f"there is no job {job_id[:80]!r}", param="id")
        return job

    @property
    def following(self) -> int:
        """How many clients follow jobs now."""
        return self._streams.open

    async def follow(self, job_id: str, after: int) -> EventStream | None:
        """The events of a job with an id above `after`, as they happen; None where there will be none.

        Raises:
            UnknownJobError: there is no such job.
            OverloadedError: as many clients follow jobs as may.
        """
        job = await self.get(job_id)
        if job.state.final and not await asyncio.to_thread(self.store.events, job.id, after, 1):
            return None
        if self._streams.full:
            raise self._overloaded("as many clients follow jobs as may", "streams_full")
        events = server_sent_events(self.store, job.id, after=after, stopping=self.stopping)
        return EventStream(events, self._streams)

    async def cancel(self, job_id: str) -> Job:
        """Stop a job; it has ended when this returns, or will within moments.

        Raises:
            UnknownJobError: there is none.
            JobFinishedError: it has ended already, or its model is being hosted.
        """
        job = await self.get(job_id)
        if job.state.final:
            raise JobFinishedError(f"job {job.id} has {job.state} already", param="id")
        await asyncio.to_thread(self.store.cancel, job_id)
        job = await self.get(job_id)
        if self._supervisor is not None:
            self._supervisor.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                while not job.state.final:
                    await asyncio.sleep(0.02)
                    job = await self.get(job_id)
        if job.state.final and job.state is not JobState.CANCELLED:
            raise JobFinishedError(f"job {job.id} {job.state} before it could be cancelled", param="id")
        return job

    async def report(self, job_id: str) -> Path:
        """File of a job's report.

        Raises:
            UnknownJobError: there is no such job.
            NoReportError: it has no report (yet).
        """
        job = await self.get(job_id)
        file = self.folders.of(job.id) / RESULT / REPORT
        if not file.is_file():
            raise NoReportError(f"job {job.id} is {job.state} and has no report", param="id")
        return file

    def _register(self, job: Job, draft: Path) -> None:
        folder = self.folders.publish(draft, job.id)
        try:
            self.store.add(job, max_queued=self._settings.max_queued_jobs)
        except BaseException:
            folder.rename(draft)
            raise

    def _require_name(self, name: str, *, replace: bool) -> None:
        if not self._keeper.taken(name):
            return
        if not replace:
            raise ModelExistsError(
                f"there is a model {name!r} already: choose another name, or add replace=true", param="spec.name"
            )
        self._keeper.require_replaceable(name)

    async def _free_name(self, wish: str) -> str:
        return self._keeper.free_name(wish, await asyncio.to_thread(self.store.names))

    def _overloaded(self, message: str, reason: str) -> OverloadedError:
        self._metrics.shed.labels(reason).inc()
        return OverloadedError(message, reason=reason, retry_after=_RETRY_AFTER)

    async def _count(self) -> None:
        while True:
            with contextlib.suppress(DeepThinError):
                for state, count in (await asyncio.to_thread(self.store.counts)).items():
                    self._metrics.jobs.labels(state.value).set(count)
            await asyncio.sleep(_REFRESH_SECONDS)
