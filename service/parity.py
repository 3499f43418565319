"""Checks in the background that this machine computes every hosted model as it should, and publishes how exactly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from models.errors import PackageError
from models.package import ModelPackage
from service.background import background
from service.hosted import ModelState
from service.hub import Hub
from service.jobs.process import worker_environment
from service.metrics import Metrics

logger = logging.getLogger(__name__)

COMMAND: Final = (sys.executable, "-m", "models.selfcheck")

_PAUSE_SECONDS = 1.0
_NICE = 10
# A check takes a second or so; a network that hangs must not keep the others from being checked.
_LONGEST_SECONDS = 300.0

# A file that has changed is another model.
_Key = tuple[str, int, int]


class ParityWatch:
    """Looks for models that have become ready and checks each once, in a process that stands back."""

    def __init__(self, hub: Hub, metrics: Metrics, *, command: Sequence[str] = COMMAND) -> None:
        """`command` checks the packages in the folders that are put behind it, as `models.selfcheck` does."""
        self._hub = hub
        self._metrics = metrics
        self._command = tuple(command)
        self._found: dict[_Key, dict[str, Any]] = {}

    def running(self, *, wanted: bool) -> AbstractAsyncContextManager[None]:
        """Check models for as long as the context lasts, if that is `wanted`."""
        return background(self._run, wanted=wanted)

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except OSError:
                logger.warning("the parity check cannot run", exc_info=True)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self) -> None:
        packages = self._ready()
        new = {key: package for key, package in packages.items() if key not in self._found}
        if new:
            await self._check(new)
        self._found = {key: found for key, found in self._found.items() if key in packages or key in new}
        # A model may have gone while it was checked, and its series with it.
        for key, package in self._ready().items():
            if (found := self._found.get(key)) and found.get("operators"):
                self._metrics.publish_parity(package.manifest, error=found["difference"], tolerance=found["tolerance"])

    def _ready(self) -> dict[_Key, ModelPackage]:
        packages = {}
        for model in self._hub.models():
            if model.state is ModelState.READY and model.package is not None:
                # A model of several networks has none of our operators.
                with contextlib.suppress(OSError, PackageError):
                    stat = model.package.graph_file.stat()
                    packages[str(model.package.path), stat.st_mtime_ns, stat.st_size] = model.package
        return packages

    async def _check(self, packages: dict[_Key, ModelPackage]) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *(folder for folder, _, _ in packages),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=worker_environment(1),
        )
        output = b""
        try:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_SECONDS):
                    output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        answers = {answer["folder"]: answer for answer in map(json.loads, output.splitlines())}
        for key, package in packages.items():
            found = answers.get(key[0], {"error": "the check ended without an answer"})
            self._found[key] = found
            name = package.manifest.name
            if "error" in found:
                logger.warning("model cannot be checked", extra={"model": name, "reason": found["error"]})
            elif found["difference"] > found["tolerance"]:
                logger.error("model computes wrongly here", extra={"model": name, **_facts(found)})


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("difference", "tolerance", "worst")}
