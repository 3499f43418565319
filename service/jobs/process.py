"""A worker as a process of its own: started, listened to, ended with all that it started, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from service.settings import Settings

# How libraries for arithmetic are told how many threads they may have.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PR_SET_PDEATHSIG: Final = 1
_LIKELY_VICTIM = "600"
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_IDLE: Final = 3 << 13
_LONGEST_MESSAGE: Final = 2**20


Hear = Callable[[Any], Awaitable[None]]
"""Takes a message of a worker."""


class WorkerProcess:
    """A running worker, leader of a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, hear: Hear | None) -> None:
        self._process = process
        self._end = asyncio.create_task(self._ended(hear))

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environment: Mapping[str, str], log: Path, hear: Hear | None = None
    ) -> WorkerProcess:
        """Run `command`; `hear` is given the JSON of each line of its standard output, `log` has the other."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=dict(environment),
                start_new_session=True,
                limit=_LONGEST_MESSAGE,
            )
        return cls(process, hear)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group too."""
        return self._process.pid

    def resident_bytes(self) -> int:
        """Resident memory; 0 once it has ended, and where there is no /proc to tell."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0

    async def wait(self, seconds: float) -> int | None:
        """The exit code (negative: the signal that ended it), or None if it still runs after `seconds`.

        All that it said has been heard when there is a code; what `hear` raised ends the worker and is raised here.
        """
        await asyncio.wait({self._end}, timeout=seconds)
        return self._end.result() if self._end.done() else None

    def kill(self) -> None:
        """End it and everything it started: from now on none of it does anything, though all may take a moment to go.

        What a worker leaves on the disk is whole at any moment, so that asking it first would gain nothing.
        """
        if not self._end.done():
            self._signal(signal.SIGKILL)
            self._hurry()

    async def stop(self) -> None:
        """`kill` it, and return once it is gone, even where this is cancelled: nobody else would see it end."""
        self.kill()
        cancelled = None
        while not self._end.done():
            try:
                await asyncio.wait({self._end})
            except asyncio.CancelledError as error:
                cancelled = error
        self._end.exception()
        if cancelled is not None:
            raise cancelled

    def hold(self) -> None:
        """Make it and everything it started stand still."""
        if not self._end.done():
            self._signal(signal.SIGSTOP)

    def release(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def _ended(self, hear: Hear | None) -> int:
        assert self._process.stdout is not None
        failure = None
        try:
            async for line in self._process.stdout:
                # One that was killed may have been in the middle of a word.
                if hear is not None and line.endswith(b"\n"):
                    await hear(json.loads(line))
        except Exception as error:
            failure = error
            self._signal(signal.SIGKILL)
        code = await self._process.wait()
        # What the worker may have started goes with it.
        self._signal(signal.SIGKILL)
        if failure is not None:
            raise failure
        return code

    def _hurry(self) -> None:
        # A process dies by its own processor time, and one that has the lowest priority gets none on a busy machine.
        if sys.platform == "linux":
            for thread in _threads(self.pid):
                with contextlib.suppress(OSError):
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, thread, 0)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    return []


def worker_environment(threads: int, **extra: str) -> dict[str, str]:
    """The environment of a worker: this process's, with few threads and without the keys of clients."""
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), **extra}
    environment.pop("DEEPTHIN_API_KEYS", None)
    return environment


def worker_settings(settings: Settings) -> dict[str, str]:
    """The settings that a worker needs, as variables of its environment."""
    return {
        "DEEPTHIN_HOME": str(settings.home),
        "DEEPTHIN_JOB_THREADS": str(settings.job_threads),
        "DEEPTHIN_JOB_NICE": str(settings.job_nice),
        "DEEPTHIN_JOB_IDLE": str(settings.job_idle),
        "DEEPTHIN_JOB_MEMORY_BYTES": str(settings.job_memory_bytes),
        **({} if settings.data is None else {"DEEPTHIN_DATA": str(settings.data)}),
    }


def messages() -> TextIO:
    """A worker's standard output for messages alone: whatever else prints there goes to the log from now on."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def stand_back(nice: int, *, idle: bool) -> None:
    """Let every other process go first, on processor and disk; when memory runs out, be the one that is ended.

    Args:
        nice: how far to stand back, from 0 to 19.
        idle: to get anything at all only while nobody else wants it. Linux alone knows that.
    """
    with contextlib.suppress(OSError):
        os.nice(nice)
    if sys.platform == "linux":
        # Where sessions share the processor among them, niceness counts only within the worker's own session.
        _tell_kernel("autogroup", str(nice))
        _tell_kernel("oom_score_adj", _LIKELY_VICTIM)
        if idle:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            _idle_on_disk()


def _tell_kernel(name: str, value: str) -> None:
    with contextlib.suppress(OSError):
        (Path("/proc/self") / name).write_text(value, encoding="ascii")


def _idle_on_disk() -> None:
    # The C library has no name for this call.
    if (number := _IOPRIO_SET.get(platform.machine())) is not None:
        ctypes.CDLL(None, use_errno=True).syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)


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
