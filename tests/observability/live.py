"""A service under load and a Prometheus that scrapes it, both real.

`python -m tests.observability.live FOLDER` draws the pictures of docs/monitoring.md from such a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.demo.process import running_service
from service.demo.recordings import own_clip
from service.observability.alerts import ALERTS, rules
from service.observability.client import Prometheus, QueryError
from service.observability.dashboard import DASHBOARD
from service.observability.panels import Panel

SECONDS = 45.0
# Few places, so that a burst of requests is more than the service takes; a job that need not wait for a quiet machine.
SETTINGS = {"DEEPTHIN_QUEUE_LENGTH": "4", "DEEPTHIN_JOB_IDLE": "false", "DEEPTHIN_JOB_NICE": "0"}
SPEC = {"name": "live-check", "method": "low-rank", "size": 0.5, "allow_slower": True}
CHECKPOINT = "deepspeech-dense"
BURST = 16
JOB_SECONDS = 400.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left behind; both servers are still there.

    Attributes:
        prometheus: the Prometheus.
        start: when it began, in seconds since 1970.
        statuses: how many requests got which status.
        job: the compression job, as it ended.
    """

    prometheus: Prometheus
    start: float
    statuses: dict[int, int]
    job: dict[str, Any]


@contextlib.contextmanager
def run(seconds: float = SECONDS) -> Iterator[Run]:
    """Bring both up and put traffic on the service: every model, errors, more than it takes, a job."""
    with running_service(lambda _: None, settings=SETTINGS) as service, scraping(service) as url:
        start = time.time()
        statuses, job = asyncio.run(_traffic(service, seconds))
        yield Run(Prometheus(url), start, statuses, job)


@contextlib.contextmanager
def scraping(service: str) -> Iterator[str]:
    """A Prometheus that scrapes `service` every second and has the alert rules; its address."""
    program = shutil.which("prometheus")
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="deepthin-prometheus-") as name:
        folder = Path(name)
        (folder / "alerts.yml").write_text(rules(), encoding="utf-8")
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {"job_name": "deepthin", "static_configs": [{"targets": [service.removeprefix("http://")]}]}
            ],
        }
        # JSON is YAML too.
        (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, *options, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT
            )
            try:
                _wait(process, f"http://{address}", folder / "log")
                yield f"http://{address}"
            finally:
                process.terminate()
                process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        with contextlib.suppress(QueryError):
            if any(series.values == [1.0] for series in Prometheus(url).now("up")):
                return
        time.sleep(0.2)
    raise AssertionError(f"Prometheus does not scrape: {log.read_text(errors='replace')[-2000:]}")


async def _traffic(service: str, seconds: float) -> tuple[dict[int, int], dict[str, Any]]:
    clip = own_clip().data
    statuses: dict[int, int] = {}
    async with httpx.AsyncClient(base_url=service, timeout=120, trust_env=False) as client:

        async def transcribe(model: str, content: bytes = clip) -> None:
            response = await client.post("/transcribe", params={"model": model}, content=content)
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1

        hosted = [model for model in (await client.get("/models")).json()["models"] if model["state"] == "ready"]
        models = [model["name"] for model in hosted]
        checkable = sum(model["method"] == "deepthin" for model in hosted)
        checkpoint = (await client.get(f"/models/{CHECKPOINT}/download")).content
        await asyncio.gather(*map(transcribe, models[:2]))
        response = await client.post(
            "/compress", data={"spec": json.dumps(SPEC)}, files={"checkpoint": ("parent.zip", checkpoint)}
        )
        job: dict[str, Any] = response.raise_for_status().json()
        start = time.monotonic()
        turn = 0
        checked = False
        while (spent := time.monotonic() - start) < seconds or job["state"] in ("queued", "running") or not checked:
            assert spent < JOB_SECONDS, (job, checked)
            for first in range(0, len(models), 2):
                await asyncio.gather(*map(transcribe, models[first : first + 2]))
            if turn % 4 == 1:
                await asyncio.gather(*(transcribe("default") for _ in range(BURST)))
            await transcribe("nobody")
            await transcribe("default", b"not audio")
            job = (await client.get(f"/jobs/{job['id']}")).json()
            # The models are checked in the background, whenever nothing else is to be done.
            checked = (await client.get("/metrics")).text.count("deepthin_model_parity_error_ratio{") >= checkable
            turn += 1
            await asyncio.sleep(0.5)
    # The last values are to be scraped.
    await asyncio.sleep(2.5)
    return statuses, job


def unanswered(prometheus: Prometheus) -> list[str]:
    """Queries of panels and alerts that have no answer, or one that is no number."""
    wrong = [
        f"{panel.title}: {query.expr}"
        for panel in DASHBOARD.panels
        for query in panel.queries
        if not _numbers(prometheus, query.expr, panel)
    ]
    return wrong + [f"{alert.name}: {alert.value}" for alert in ALERTS if not _numbers(prometheus, alert.value)]


def _numbers(prometheus: Prometheus, expr: str, panel: Panel | None = None) -> bool:
    found = prometheus.now(expr)
    return bool(found) and all(math.isfinite(value) for series in found for value in series.values)


def main() -> None:
    """Run for two minutes and draw what Prometheus has seen."""
    from service.observability.render import render

    with run(120.0) as done:
        for path in render(done.prometheus, Path(sys.argv[1]), start=done.start, end=time.time()):
            print(path)


if __name__ == "__main__":
    main()
