"""The service as a process of its own, with the tiny model and the fake pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

SERVER = str(Path(__file__).with_name("fake_server.py"))


class Service:
    """A real service, on a socket of this machine."""

    def __init__(self, home: Path, log: Path, **settings: str) -> None:
        """Start it; `settings` are further environment variables."""
        environment = {
            **os.environ,
            "DEEPTHIN_HOME": str(home),
            "DEEPTHIN_PORT": "0",
            "DEEPTHIN_MODELS": "tiny-dense",
            "DEEPTHIN_JOB_NICE": "0",
            "DEEPTHIN_JOB_IDLE": "false",
            "DEEPTHIN_MIN_FREE_BYTES": "0",
            **settings,
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen([sys.executable, SERVER], stdout=output, stderr=output, env=environment)
        self._log = log
        self.client = httpx.Client(base_url=self._address(), timeout=120)

    def kill(self) -> None:
        """End it without a warning."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def job(self, job_id: str) -> dict[str, Any]:
        """A job."""
        response = self.client.get(f"/jobs/{job_id}")
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        return answer

    def until(self, job_id: str, *states: str, stage: str | None = None) -> dict[str, Any]:
        """The job once it is in one of `states` (and in `stage`)."""
        for _ in range(2400):
            job = self.job(job_id)
            if job["state"] in states and stage in (None, job["stage"]):
                return job
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.05)
        raise AssertionError(f"the job does not get there: {job}")

    def until_ready(self) -> None:
        """Return once its model can answer."""
        for _ in range(2400):
            if self.client.get("/readyz").status_code == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"the service does not get ready: {self._log.read_text()}")

    def _address(self) -> str:
        for _ in range(2400):
            for line in self._log.read_text().splitlines():
                if "running on" in line:
                    return line.split("running on ")[1].split()[0]
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"the service did not start: {self._log.read_text()}")
