"""Looks into what was posted before it becomes a job, so that whoever posted it hears at once what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from service.errors import InvalidParameterError
from service.jobs.fields import CHECKPOINT
from service.jobs.process import WorkerProcess, worker_environment, worker_settings
from service.settings import Settings

INSPECTOR: Final = (sys.executable, "-m", "service.jobs.inspector")

# What takes longer is left to the job, whose first stage looks into it again with all the time that a job has.
_SECONDS: Final = 20.0
_LOG: Final = "inspection.log"
_LOGGED_BYTES: Final = 4000

logger = logging.getLogger(__name__)


class Inspection:
    """Inspects one upload at a time, each in a process of its own."""

    def __init__(self, settings: Settings, command: Sequence[str] = INSPECTOR) -> None:
        """`command` inspects the folder that is put behind it."""
        self._settings = settings
        self._command = tuple(command)
        self._turn = asyncio.Semaphore(1)

    async def require_sound(self, folder: Path) -> None:
        """See that a job can begin with the upload in `folder`, as far as can be told without running the network.

        Raises:
            InvalidParameterError: it cannot; the message says why.
        """
        log = folder / _LOG
        async with self._turn:
            code, said = await self._ask(folder, log)
        if said:
            if said[0]["trace"] is not None:
                logger.error("an upload cannot be inspected", extra={"trace": said[0]["trace"]})
            raise InvalidParameterError(said[0]["message"], param=said[0]["param"])
        if code is not None and code < 0 and -code != signal.SIGKILL:
            # Whoever sends SIGKILL, such as a kernel out of memory, says nothing about the file.
            name = signal.Signals(-code).name
            logger.error("the inspector of an upload died", extra={"signal": name, "log": _end_of(log)})
            raise InvalidParameterError(
                f"the checkpoint cannot be read: the process that looked into it died of {name}", param=CHECKPOINT
            )
        if code:
            logger.warning("an upload was not inspected", extra={"exit_code": code, "log": _end_of(log)})
        log.unlink()

    async def _ask(self, folder: Path, log: Path) -> tuple[int | None, list[Mapping[str, Any]]]:
        """The inspector's exit code, None where it took too long, and what it said."""
        said: list[Mapping[str, Any]] = []

        async def hear(message: Mapping[str, Any]) -> None:
            said.append(message)

        inspector = await WorkerProcess.start(
            (*self._command, str(folder), "--parent", str(os.getpid())),
            environment=worker_environment(self._settings.job_threads, **worker_settings(self._settings)),
            log=log,
            hear=hear,
        )
        try:
            return await inspector.wait(_SECONDS), said
        finally:
            await inspector.stop()


def _end_of(log: Path) -> str:
    return log.read_bytes()[-_LOGGED_BYTES:].decode("utf-8", "replace")
