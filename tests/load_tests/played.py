"""A service that is played: as fast as it is told, with a queue of its own, metrics, models and jobs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

MODELS = ("net-small", "net-dense")


@dataclass
class Played:
    """An ASGI application.

    Attributes:
        seconds: that one answer takes while no job runs; one request is answered at a time.
        slower: how many times as long it takes beside a job.
        room: requests that may wait; more get 503.
        jobs: states of the jobs, by their paths.
        asked: models that were asked for.
        job_stage: what jobs say they do.
        outcome: state of a job that has been asked for three times; None for jobs without an end.
    """

    seconds: float = 0.002
    slower: float = 1.0
    room: int = 20
    jobs: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    specs: list[bytes] = field(default_factory=list)
    job_stage: str = "compress"
    outcome: str | None = None
    waiting: int = 0
    polls: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        body = b""
        while (message := await receive()).get("more_body") or message.get("body"):
            body += message["body"]
            if not message.get("more_body"):
                break
        status, answer = await self._answer(scope["method"], scope["path"], scope["query_string"].decode(), body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": data})

    async def _answer(self, method: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
        if path == "/transcribe":
            return await self._transcribe(parse_qs(query).get("model", ["default"])[0])
        if path == "/models":
            rows = [("net-small", "net-dense", 1), ("net-dense", None, 9), ("broken", None, 5)]
            states = ("ready", "ready", "failed")
            keys = ("name", "parent", "resident_bytes", "state")
            return 200, {
                "models": [dict(zip(keys, (*row, state), strict=True)) for row, state in zip(rows, states, strict=True)]
            }
        if path.endswith("/download"):
            return 200, b"PK a package"
        if path == "/metrics":
            worker = 7e6 if "running" in self.jobs.values() else 0
            return 200, (
                "# TYPE deepthin_process_resident_memory_bytes gauge\ndeepthin_process_resident_memory_bytes 5e7\n"
                f"# TYPE deepthin_job_worker_resident_memory_bytes gauge\n"
                f"deepthin_job_worker_resident_memory_bytes {worker}\n"
                "# TYPE deepthin_process_cpu_seconds_total counter\n"
                f"deepthin_process_cpu_seconds_total {0.001 * len(self.asked)}\n"
                "# TYPE deepthin_job_worker_held_seconds_total counter\n"
                f"deepthin_job_worker_held_seconds_total {0.001 * len(self.asked)}\n"
            ).encode()
        if path == "/compress":
            self.specs.append(body)
            self.jobs[f"/jobs/{len(self.jobs)}"] = "running"
            return 202, {"id": str(len(self.jobs) - 1)}
        if method == "DELETE":
            self.jobs[path] = "cancelled"
        elif self.outcome is not None:
            self.polls += 1
            if self.polls % 3 == 0:
                self.jobs[path] = self.outcome
        return 200, {"state": self.jobs[path], "stage": self.job_stage, "reason": "no such weight"}

    async def _transcribe(self, model: str) -> tuple[int, Any]:
        if self.waiting >= self.room:
            return 503, {}
        self.waiting += 1
        try:
            async with self._turn:
                self.asked.append(model)
                await asyncio.sleep(self.seconds * (self.slower if "running" in self.jobs.values() else 1))
        finally:
            self.waiting -= 1
        return 200, {"text": "yes", "duration_seconds": 2.0}
