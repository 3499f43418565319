"""`python -m service.jobs.worker ID`: does one job in a process of its own.

The settings say where the jobs are. Progress and the end go to the standard output, a line of JSON each, for the
service to put into the store: a process that gets no processor for a while must hold no lock on it. Hosting what was
made is the service's part too. A worker that is killed is simply started again: the pipeline goes on after its last
finished stage.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

from ops.errors import DeepThinError
from service import logs
from service.jobs.corpora import Corpora
from service.jobs.folders import JobFolders
from service.jobs.memory import memory_limit
from service.jobs.process import die_with, messages, stand_back
from service.jobs.record import JobState
from service.jobs.store import JobStore
from service.settings import Settings

if TYPE_CHECKING:
    from models.compression.pipeline import Event, Outcome
    from models.compression.spec import CompressionSpec

# The job ended, well or badly, and the service was told.
DONE: Final = 0
# There is no such job, or it has ended already.
NOTHING_TO_DO: Final = 3

# Every event is a write to the disk.
_SECONDS_BETWEEN_LAYERS = 0.05
_SECONDS_BETWEEN_EVENTS = 0.5
_LONGEST_REASON: Final = 4000

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
    logs.configure("info", settings.log_format)
    folders = JobFolders(settings.home / "jobs")
    if not folders.of(args.job).is_dir():
        return NOTHING_TO_DO
    lock = folders.worker_lock(args.job)
    # A worker of a service that is gone may still be at it.
    lock.acquire(wait=True)
    try:
        store = JobStore(folders.root)
        try:
            job = store.get(args.job)
        finally:
            store.close()
        if job is None or job.state is not JobState.RUNNING or job.outcome is not None:
            return NOTHING_TO_DO
        stand_back(settings.job_nice, idle=settings.job_idle)
        with messages() as output:
            _work(_Teller(output), folders.of(job.id), job.id, job.spec, settings, pipeline)
    finally:
        lock.release()
    return DONE


def _work(
    teller: _Teller, folder: Path, job_id: str, spec: dict[str, Any], settings: Settings, pipeline: Pipeline | None
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
                progress=teller.progress,
                corpora=Corpora(settings.corpus_folders),
                threads=settings.job_threads,
            )
    except BrokenPipeError:
        # The service is gone; the next worker tells the next one how it goes.
        raise
    except DeepThinError as error:
        logger.info("job failed", extra={"job": job_id, "reason": str(error)})
        teller.tell(failed=str(error)[:_LONGEST_REASON])
    except Exception as error:
        logger.exception("job failed", extra={"job": job_id})
        teller.tell(failed=f"internal error: {type(error).__name__} (the log of the job says more)")
    else:
        places = {"package": outcome.package, "transport": outcome.transport, "report": outcome.report}
        root = folder.resolve()
        teller.tell(
            outcome={
                "accepted": outcome.accepted,
                "reasons": list(outcome.reasons),
                **{name: place.resolve().relative_to(root).as_posix() for name, place in places.items()},
            }
        )


class _Teller:
    """Tells the service how the job goes."""

    def __init__(self, messages: TextIO) -> None:
        self._messages = messages
        self._stage: str | None = None
        self._layer: str | None = None
        self._written = 0.0

    def tell(self, **message: Any) -> None:
        """Send one message: `progress`, `failed` or `outcome`."""
        self._messages.write(json.dumps(message) + "\n")
        self._messages.flush()

    def progress(self, event: Event) -> None:
        """Tell of every change of stage, and in between now and then."""
        now = time.monotonic()
        wait = _SECONDS_BETWEEN_LAYERS if event.layer != self._layer else _SECONDS_BETWEEN_EVENTS
        if event.stage == self._stage and now - self._written < wait:
            return
        self._stage, self._layer, self._written = event.stage, event.layer, now
        self.tell(
            progress={
                "stage": event.stage, "layer": event.layer, "fraction": event.fraction, "message": event.message
            }
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
