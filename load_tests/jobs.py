"""Compression jobs that run beside the transcriptions."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

_POLL_SECONDS = 0.25
# A job stands back for everything: on a machine that has no time to spare it may never begin.
_PATIENCE_SECONDS = 120.0
# A result is neither wanted nor judged here: what counts is the work that it takes.
_SPEC = {"host": False, "allow_slower": True}


class JobsError(RuntimeError):
    """No compression job could be kept running."""


@dataclass(slots=True)
class Jobs:
    """The jobs so far.

    Attributes:
        ended: how many have ended by themselves.
        failed: how many of these failed.
    """

    ended: int = 0
    failed: int = 0


@asynccontextmanager
async def running_jobs(client: httpx.AsyncClient, parent: str, method: str, size: float) -> AsyncIterator[Jobs]:
    """Compress the hosted model `parent` again and again; a job is at work when this begins, and cancelled at the end.

    Raises:
        JobsError: the service takes no job, or jobs do not begin or do nothing but fail.
        httpx.HTTPError: it does not answer.
    """
    checkpoint = (await client.get(f"/models/{parent}/download")).raise_for_status().content
    jobs = Jobs()
    started = asyncio.Event()
    task = asyncio.create_task(_keep(client, checkpoint, {**_SPEC, "method": method, "size": size}, jobs, started))
    beginning = asyncio.create_task(started.wait())
    try:
        await asyncio.wait({task, beginning}, timeout=_PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        if not started.is_set():
            raise JobsError(f"the job did not get to work within {_PATIENCE_SECONDS:g} s: this machine is too busy")
        yield jobs
        if task.done():
            await task
    finally:
        beginning.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, JobsError, httpx.HTTPError):
            await task


async def _keep(
    client: httpx.AsyncClient, checkpoint: bytes, spec: dict[str, object], jobs: Jobs, started: asyncio.Event
) -> None:
    while True:
        named = {**spec, "name": f"load-{uuid.uuid4().hex[:8]}"}
        response = await client.post(
            "/compress", files={"checkpoint": ("parent.zip", checkpoint)}, data={"spec": json.dumps(named)}
        )
        if response.status_code != 202:
            raise JobsError(f"the service takes no job ({response.status_code}): {response.text}")
        place = f"/jobs/{response.json()['id']}"
        try:
            job = await _ended(client, place, started)
        except asyncio.CancelledError:
            with contextlib.suppress(httpx.HTTPError):
                await asyncio.shield(client.delete(place))
            raise
        started.set()
        jobs.ended += 1
        if job["state"] == "failed":
            jobs.failed += 1
            if jobs.failed == jobs.ended == 3:
                raise JobsError(f"jobs do nothing but fail: {job['reason']}")


async def _ended(client: httpx.AsyncClient, place: str, started: asyncio.Event) -> dict[str, object]:
    while True:
        response = await client.get(place)
        response.raise_for_status()
        job: dict[str, object] = response.json()
        if job["state"] not in ("queued", "running"):
            return job
        if job["stage"] not in (None, "validate"):
            started.set()
        await asyncio.sleep(_POLL_SECONDS)
