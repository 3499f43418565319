"""Every command of the runbook, docs/operations.md, really run on a service and its home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.demo.recordings import CLIP
from tests.page import browser
from tests.service.jobs import form, script

RUNBOOK = (browser.ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PROGRAMS = ("curl", "jq", "sqlite3", "tar", "ps")
# Commands that must print something here, by a part of them.
TELLING = (
    "/livez", "/readyz", "$S/models |", "hello-1", "requests_shed_total", "rollback", "promote", "state=failed",
    "state=running", "ps -eo", "du -sh", "weight_bytes", "integrity_check", "-X DELETE $S/jobs",
)  # fmt: skip


def blocks() -> list[list[str]]:
    """The commands, block by block, without those that set up the shell or start the service."""
    found = re.findall(r"^```sh\n(.*?)^```", RUNBOOK, re.MULTILINE | re.DOTALL)
    lines = [
        [line for line in block.splitlines() if not re.match(r"export |S=|\S*deepthin serve", line)] for block in found
    ]
    return [block for block in lines if block]


def run(commands: list[str], folder: Path, **variables: str) -> None:
    """Run commands in one shell, one after the other; each must succeed, and tell something where it should."""
    mark = "-- done"
    text = "set -euo pipefail\n" + "".join(f"{command}\necho '{mark}'\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    outputs = done.stdout.split(f"{mark}\n")
    assert done.returncode == 0, (commands[min(len(outputs), len(commands)) - 1], done.stdout, done.stderr)
    for command, output in zip(commands, outputs, strict=False):
        assert output.strip() or not any(part in command for part in TELLING), command


def submit(client: httpx.Client, name: str) -> str:
    """Post a job for the pretended worker; its id."""
    return str(client.post("/compress", **form({"name": name})).raise_for_status().json()["id"])


def until(client: httpx.Client, job: str, *states: str) -> None:
    """Wait for a job to be in one of `states`, and beyond its first stage."""
    end = time.monotonic() + 120
    while True:
        found = client.get(f"/jobs/{job}").json()
        if found["state"] in states and (found["state"] != "running" or found["stage"]):
            return
        assert time.monotonic() < end, found
        time.sleep(0.1)


@contextmanager
def eventful_service(home: Path) -> Iterator[str]:
    """A service to which has happened what the runbook speaks of."""
    browser.add_tiny_model(home)
    script(home, failing={"fail": "compress"}, endless={"seconds": 600})
    default, parent = browser.few_models()
    command = [sys.executable, str(browser.FAKE_SERVER)]
    # What the runbook looks for among all processes.
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "service.jobs.worker"])
    try:
        with (
            browser.service(home, command, models=f"{default},{parent},tiny-dense", log_format="json") as url,
            httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
        ):
            client.post(
                "/transcribe", content=CLIP.read_bytes(), headers={"x-request-id": "hello-1"}
            ).raise_for_status()
            client.post(f"/models/{parent}/promote").raise_for_status()
            until(client, submit(client, "mine"), "succeeded")
            until(client, submit(client, "failing"), "failed")
            until(client, submit(client, "endless"), "running")
            yield url
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_runbook_uses_no_other_programs(program: str) -> None:
    assert any(program in line for block in blocks() for line in block)


@pytest.mark.skipif(
    any(shutil.which(program) is None for program in PROGRAMS),
    reason=f"not all of {', '.join(PROGRAMS)} are installed (Debian: apt-get install curl jq sqlite3)",
)
def test_every_command_works(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    (backing_up,) = [block for block in blocks() if any(line.startswith("tar ") for line in block)]
    with eventful_service(home) as url:
        for block in blocks():
            if block != backing_up:
                run(block, home, S=url, DEEPTHIN_HOME=str(home))
    # With the service at rest, as the runbook has it; and restored into a folder that is empty.
    run(backing_up[:1], tmp_path, DEEPTHIN_HOME=str(home))
    run(backing_up[1:], tmp_path, DEEPTHIN_HOME=str(other))
    assert (other / "models" / "default").read_text() == (home / "models" / "default").read_text()
