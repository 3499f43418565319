"""`python -m service.jobs.worker ID`: does one job in a process of its own.

The settings say where the jobs are. Progress and the outcome go into the store of jobs; hosting what was made is the
service's part. A worker that is killed is simply started again: the pipeline goes on after its last finished stage.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ops.errors import DeepThinError
from service import logs
from service.jobs.corpora import Corpora
from service.jobs.folders import JobFolders
from service.jobs.memory import memory_limit
from service.jobs.process import die_with, stand_back
from service.jobs.record import JobState
from service.jobs.store import JobStore, JobStoreError
from service.settings import Settings

if TYPE_CHECKING:
    from models.compression.pipeline import Event, Outcome
    from models.compression.spec import CompressionSpec

# The job ended, well or badly, and the store knows it.
DONE: Final = 0
# There is no such job, or it has ended already.
NOTHING_TO_DO: Final = 3

# Every event is a write to the disk.
_SECONDS_BETWEEN_LAYERS = 0.05
_SECONDS_BETWEEN_EVENTS = 0.5

logger = logging.getLogger(__name__)


class Pipeline(Protocol):
    """`models.compression.pipeline.run`."""

    def __call__(
        self,
        folder: Path,
        spec: CompressionSpec,
        *,
        progress: Callable[[Event], None],
        corpora: Callable[[str], Path],
        threads: int,
    ) -> Outcome:
        """Do the job in `folder`."""
        ...


def main(argv: Sequence[str] | None = None, *, pipeline: Pipeline | None = None) -> int:
    """Do the job that is named first; the exit code."""
    parser = argparse.ArgumentParser("service.jobs.worker", description="Do one compression job.")
    parser.add_argument("job", help="id of the job")
    parser.add_argument("--parent", type=int, help="process to end with")
    args = parser.parse_args(argv)
    if args.parent is not None:
        die_with(args.parent)
    settings = Settings()
    stand_back(settings.job_nice, idle=settings.job_idle)
    logs.configure("info", settings.log_format)
    folders = JobFolders(settings.home / "jobs")
    store = JobStore(folders.root)
    try:
        job = store.get(args.job)
        if job is None or not folders.of(job.id).is_dir():
            return NOTHING_TO_DO
        lock = folders.worker_lock(job.id)
        # A worker of a service that is gone may still be at it.
        lock.acquire(wait=True)
        try:
            job = store.get(args.job)
            if job is None or job.state is not JobState.RUNNING or job.outcome is not None:
                return NOTHING_TO_DO
            _work(store, folders.of(job.id), job.id, job.spec, settings, pipeline)
        finally:
            lock.release()
    finally:
        store.close()
    return DONE


def _work(
    store: JobStore, folder: Path, job_id: str, spec: dict[str, Any], settings: Settings, pipeline: Pipeline | None
) -> None:
    try:
        with memory_limit(settings.job_memory_bytes):
            # Slow to import, and not needed to find out that there is nothing to do.
            from models.compression.pipeline import run
            from models.compression.spec import CompressionSpec

            chosen: Pipeline = pipeline or run
            outcome = chosen(
                folder,
                CompressionSpec.model_validate(spec),
                progress=_Reporter(store, job_id),
                corpora=Corpora(settings.corpus_folders),
                threads=settings.job_threads,
            )
    except JobStoreError:
        # Not the job's fault; the next worker may be able to say how it goes.
        raise
    except DeepThinError as error:
        logger.info("job failed", extra={"job": job_id, "reason": str(error)})
        store.finish(job_id, JobState.FAILED, str(error))
    except Exception as error:
        logger.exception("job failed", extra={"job": job_id})
        store.finish(job_id, JobState.FAILED, f"internal error: {type(error).__name__} (the log of the job says more)")
    else:
        places = {"package": outcome.package, "transport": outcome.transport, "report": outcome.report}
        root = folder.resolve()
        store.give_outcome(
            job_id,
            {
                "accepted": outcome.accepted,
                "reasons": list(outcome.reasons),
                **{name: place.resolve().relative_to(root).as_posix() for name, place in places.items()},
            },
        )


class _Reporter:
    """Writes progress into the store: every change of stage, and in between now and then."""

    def __init__(self, store: JobStore, job_id: str) -> None:
        self._store = store
        self._job_id = job_id
        self._stage: str | None = None
        self._layer: str | None = None
        self._written = 0.0

    def __call__(self, event: Event) -> None:
        """Note `event`."""
        now = time.monotonic()
        wait = _SECONDS_BETWEEN_LAYERS if event.layer != self._layer else _SECONDS_BETWEEN_EVENTS
        if event.stage == self._stage and now - self._written < wait:
            return
        self._stage, self._layer, self._written = event.stage, event.layer, now
        self._store.progress(
            self._job_id, stage=event.stage, layer=event.layer, fraction=event.fraction, message=event.message
        )


if __name__ == "__main__":
    sys.exit(main())
