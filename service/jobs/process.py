"""A worker as a process of its own: started, ended with all that it started, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# How libraries for arithmetic are told how many threads they may have.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PR_SET_PDEATHSIG: Final = 1
_LIKELY_VICTIM = "600"


class WorkerProcess:
    """A running worker, leader of a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._end = asyncio.create_task(self._ended())

    @classmethod
    async def start(cls, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> WorkerProcess:
        """Run `command` with its output added to the file `log`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group too."""
        return self._process.pid

    async def wait(self, seconds: float) -> int | None:
        """The exit code (negative: the signal that ended it), or None if it still runs after `seconds`."""
        await asyncio.wait({self._end}, timeout=seconds)
        return self._end.result() if self._end.done() else None

    async def stop(self, grace_seconds: float) -> None:
        """End it and everything it started: politely, and after `grace_seconds` at once."""
        if not self._end.done():
            self._signal(signal.SIGTERM)
            if await self.wait(grace_seconds) is None:
                self._signal(signal.SIGKILL)
        await self._end

    async def _ended(self) -> int:
        code = await self._process.wait()
        # What the worker may have started goes with it.
        self._signal(signal.SIGKILL)
        return code

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def worker_environment(threads: int, **extra: str) -> dict[str, str]:
    """The environment of a worker: this process's, with few threads and without the keys of clients."""
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), **extra}
    environment.pop("DEEPTHIN_API_KEYS", None)
    return environment


def stand_back(nice: int) -> None:
    """Let every other process go first; when memory runs out, be the one that is ended."""
    with contextlib.suppress(OSError):
        os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_LIKELY_VICTIM, encoding="ascii")


def die_with(parent: int) -> None:
    """End this process when its parent, the process `parent`, ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # It may have ended before it could be asked to tell.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
