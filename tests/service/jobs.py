"""What the tests of jobs share."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx

# A worker that pretends.
WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))

# An inspector that looks away: what is posted here is no network.
INSPECTOR = ("true",)

SPEC: dict[str, Any] = {"name": "made", "method": "dense"}
ONNX = b"\x08\x08\x3a\x25an onnx file, as far as anybody looks"


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def form(spec: Any = None, **files: tuple[str, bytes]) -> dict[str, Any]:
    """Arguments of `post` for a job; `spec` goes over the usual one, `files` besides the checkpoint."""
    text = spec if isinstance(spec, str | bytes) else json.dumps({**SPEC, **(spec or {})})
    return {"files": {"checkpoint": ("net.onnx", ONNX), **files}, "data": {"spec": text}}


async def submit(client: httpx.AsyncClient, spec: Any = None, *, params: Any = None, **files: tuple[str, bytes]) -> str:
    """Post a job that is accepted; its id."""
    response = await client.post("/compress", params=params, **form(spec, **files))
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}"
    return str(job["id"])


async def until(client: httpx.AsyncClient, job_id: str, *states: str, stage: str | None = None) -> dict[str, Any]:
    """The job once it is in one of `states` (and in `stage`)."""
    async with asyncio.timeout(120):
        while True:
            job: dict[str, Any] = (await client.get(f"/jobs/{job_id}")).json()
            if job["state"] in states and stage in (None, job["stage"]):
                return job
            assert job["state"] in ("queued", "running"), job
            await asyncio.sleep(0.05)


async def finished(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    return await until(client, job_id, "succeeded", "failed", "cancelled", "quarantined")


def script(home: Path, **models: dict[str, Any]) -> None:
    """Say what the fake pipeline does for each model; underscores stand for hyphens."""
    options = {name.replace("_", "-"): choice for name, choice in models.items()}
    (home / "fake.json").write_text(json.dumps(options))


def trace(home: Path, model: str) -> list[list[str]]:
    """Stages that workers worked on, in order: stage, process, group, niceness, threads."""
    return [line.split() for line in (home / f"trace-{model}").read_text().splitlines()]


def events(text: str) -> list[dict[str, Any]]:
    """Server-sent events, as `id`, `event` and `data`."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append({"id": int(fields["id"]), "event": fields["event"], "data": json.loads(fields["data"])})
    return found
