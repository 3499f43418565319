"""Folders of jobs: filled under a hidden name, then renamed; whatever has its final name is whole and on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.files import sync, sync_tree
from service.jobs.record import ID_PATTERN

RESULT: Final = "result"
REPORT: Final = "report.json"
LOG: Final = "worker.log"

_DRAFT = ".upload-"
# No upload takes longer; a draft that old was left behind by a service that died.
_ABANDONED_SECONDS = 24 * 3600.0
_SUPERVISOR_LOCK = "supervisor.lock"
_WORKER_LOCK = "worker.lock"


class JobFolders:
    """The folder `jobs` of one home."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, job_id: str) -> Path:
        """Folder of a job."""
        return self.root / job_id

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder to fill; it is gone afterwards unless it was published."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, draft: Path, job_id: str) -> Path:
        """Make a draft the folder of a job."""
        sync_tree(draft)
        folder = draft.rename(self.of(job_id))
        sync(self.root)
        return folder

    def finished_stages(self, job_id: str) -> int:
        """How many stages of the pipeline have left their mark."""
        return len(list(self.of(job_id).glob("stages/*/done")))

    def strip(self, job_id: str) -> None:
        """Delete what an ended job needs no more: all but its log and its report."""
        folder = self.of(job_id)
        for parent, kept in ((folder, (RESULT, LOG)), (folder / RESULT, (REPORT,))):
            for entry in parent.iterdir() if parent.is_dir() else ():
                if entry.name not in kept:
                    _delete(entry)

    def remove(self, job_id: str) -> None:
        """Delete all of a job."""
        shutil.rmtree(self.of(job_id), ignore_errors=True)

    def sweep(self, known: set[str]) -> None:
        """Delete what uploads left that never became a job: their service died."""
        horizon = time.time() - _ABANDONED_SECONDS
        for entry in self.root.iterdir() if self.root.is_dir() else ():
            leftover = entry.name.startswith(_DRAFT) or (
                re.fullmatch(ID_PATTERN, entry.name) is not None and entry.name not in known
            )
            with contextlib.suppress(FileNotFoundError):
                if leftover and entry.stat().st_mtime < horizon:
                    _delete(entry)

    def supervisor_lock(self) -> FileLock:
        """The right to run the jobs of this home."""
        return FileLock(self.root / _SUPERVISOR_LOCK)

    def worker_lock(self, job_id: str) -> FileLock:
        """The right to work on one job."""
        return FileLock(self.of(job_id) / _WORKER_LOCK)


class FileLock:
    """A lock between processes that goes with the process that holds it, however that ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; False when another process has it and `wait` is off."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
