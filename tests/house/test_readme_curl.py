"""Every curl example of the README, really sent to a service with the bundled models."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import av
import httpx
import pytest

from service.demo.recordings import CLIP
from tests.page.browser import ROOT, real_service

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
PATIENCE = 600.0
"""Seconds that the example's job may take on a busy machine."""


def examples() -> list[str]:
    """The commands, in the order of the README."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("curl ")]


def record(path: Path) -> None:
    """The demo's clip as a phone would have recorded it."""
    with av.open(str(CLIP)) as source, av.open(str(path), "w", format="ipod") as sink:
        stream = sink.add_stream("aac", rate=44_100, layout="mono")
        for frame in source.decode(audio=0):
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))


def wait_for_jobs(url: str) -> None:
    """Until no job waits or runs; all must have succeeded."""
    end = time.monotonic() + PATIENCE
    while True:
        jobs = httpx.get(f"{url}/jobs", trust_env=False).json()["jobs"]
        if all(job["state"] not in ("queued", "running") for job in jobs):
            assert [(job["state"], job["reason"]) for job in jobs] == [("succeeded", None)] * len(jobs)
            return
        assert time.monotonic() < end, jobs
        time.sleep(0.2)


def body_of(output: str) -> str:
    """What `curl -i` printed, without the heads of the answers."""
    while re.match(r"HTTP/[0-9.]+ ", output):
        head, _, output = output.partition("\n\n")
        assert re.match(r"HTTP/[0-9.]+ [12]", head), head
    return output


def test_there_are_examples_of_what_matters() -> None:
    text = "\n".join(examples())
    for path in ("/transcribe", "/compare", "/models", "/compress", "/jobs", "/download"):
        assert path in text
    every = len(re.findall(r"^curl ", README, re.MULTILINE))
    assert len(examples()) == every, "an example outside of a block of commands is not run"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_example_works(tmp_path: Path) -> None:
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    record(folder / "recording.m4a")
    with real_service(home) as url:
        for command in examples():
            assert ADDRESS in command
            if "model=small" in command:
                wait_for_jobs(url)
            done = subprocess.run(
                ["bash", "-c", command.replace(ADDRESS, url).replace("curl ", "curl --silent --show-error ", 1)],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
            output = body_of(done.stdout.replace("\r\n", "\n"))
            if output:
                answer = json.loads(output)
                assert "error" not in answer, (command, output)
                if "/transcribe" in command:
                    assert "letter" in answer["text"] or "model=small" in command, command
            else:
                assert list(folder.glob("*.zip")), command
        wait_for_jobs(url)
