"""Workers and services that are killed with signal 9 at any moment: no job is lost, and none is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.compression.pipeline import STAGES
from service.jobs.folders import JobFolders
from service.jobs.process import WorkerProcess
from service.jobs.record import Job, JobState
from service.jobs.store import JobStore, JobStoreError, NameTakenError, QueueFullError
from service.jobs.worker import NOTHING_TO_DO
from tests.service.conftest import Compress
from tests.service.jobs import WORKER, finished, form, script, submit, trace, until
from tests.service.real_service import Service


@pytest.fixture
def start(home: Path, tmp_path: Path) -> Iterator[Any]:
    """Start services that are gone after the test."""
    services: list[Service] = []

    def begin() -> Service:
        services.append(Service(home, tmp_path / f"log-{len(services)}"))
        return services[-1]

    yield begin
    for service in services:
        service.kill()


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.anyio
async def test_a_killed_worker_is_started_again_and_goes_on(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 0.3})
    async with compress() as client:
        job_id = await submit(client)
        killed = []
        for stage in ("plan", "fine-tune"):
            await until(client, job_id, "running", stage=stage)
            killed.append(int(trace(home, "made")[-1][1]))
            os.kill(killed[-1], signal.SIGKILL)
        job = await finished(client, job_id)
        assert (job["state"], job["restarts"], job["hosted"]) == ("succeeded", 2, True)
    stages = [line[0] for line in trace(home, "made")]
    assert stages == ["validate", "plan", "plan", "compress", "fine-tune", "fine-tune", *STAGES[4:]]
    assert len({line[1] for line in trace(home, "made")}) == 3


def test_a_killed_service_takes_its_worker_along_and_goes_on_after_a_restart(start: Any, home: Path) -> None:
    script(home, made={"seconds": 0.5})
    service = start()
    response = service.client.post("/compress", **form())
    assert response.status_code == 202
    job_id = response.json()["id"]
    waiting = service.client.post("/compress", **form({"name": "waiting"})).json()["id"]
    for stage in ("plan", "export"):
        service.until(job_id, "running", stage=stage)
        worker = int(trace(home, "made")[-1][1])
        service.kill()
        for _ in range(200):
            if not alive(worker):
                break
            time.sleep(0.05)
        assert not alive(worker)
        service = start()
    assert service.until(job_id, "succeeded")["hosted"] is True
    assert service.until(waiting, "succeeded")["hosted"] is True
    stages = [line[0] for line in trace(home, "made")]
    assert [stage for stage in STAGES if stage not in stages] == []
    # Nothing that was finished is done again.
    assert len(stages) <= len(STAGES) + 2
    assert service.client.get("/models/made").json()["state"] == "ready"


def test_a_service_that_is_told_to_stop_ends_streams_and_workers(start: Any, home: Path) -> None:
    script(home, made={"seconds": 60})
    service = start()
    job_id = service.client.post("/compress", **form()).json()["id"]
    service.until(job_id, "running", stage="validate")
    worker = int(trace(home, "made")[0][1])
    with service.client.stream("GET", f"/jobs/{job_id}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        service.process.send_signal(signal.SIGTERM)
        list(lines)
    assert service.process.wait(60) == -signal.SIGTERM
    assert not alive(worker)
    store = JobStore(home / "jobs")
    job = store.get(job_id)
    store.close()
    assert job is not None
    assert job.state is JobState.RUNNING


@pytest.mark.anyio
async def test_two_services_on_one_home_do_not_do_a_job_twice(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 0.1}, second={"seconds": 60})
    async with compress() as second:
        async with compress() as first:
            # The one that is there first runs the jobs, whoever takes them in.
            job_id = await submit(first)
            assert (await finished(second, job_id))["state"] == "succeeded"
            job_id = await submit(first, {"name": "second"})
            await until(first, job_id, "running", stage="validate")
            response = await first.delete(f"/jobs/{job_id}")
            assert response.json()["state"] == "cancelled"
        script(home, third={})
        assert (await finished(second, await submit(second, {"name": "third"})))["state"] == "succeeded"
    assert [line[0] for line in trace(home, "made")] == list(STAGES)


@pytest.mark.anyio
async def test_the_jobs_of_a_service_that_ends_go_to_the_other(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 0.3})
    first = compress()
    client = await first.__aenter__()
    async with compress() as second:
        job_id = await submit(client)
        await until(second, job_id, "running", stage="plan")
        await first.__aexit__(None, None, None)
        assert (await finished(second, job_id))["state"] == "succeeded"
    assert len(trace(home, "made")) <= len(STAGES) + 1


@pytest.mark.anyio
async def test_all_that_a_worker_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(600)"
    )
    file = tmp_path / "pid"
    worker = await WorkerProcess.start(
        (sys.executable, "-c", code, str(file)), environment=os.environ, log=tmp_path / "log"
    )
    async with asyncio.timeout(60):
        while not file.exists() or not file.read_text():
            await asyncio.sleep(0.02)
    assert await worker.wait(0.01) is None
    await worker.stop()
    child = int(file.read_text())
    for _ in range(200):
        if not alive(child):
            break
        await asyncio.sleep(0.02)
    assert not alive(child)
    assert await worker.wait(0) == -signal.SIGKILL


def test_a_worker_without_its_parent_or_without_a_job_does_nothing(home: Path) -> None:
    environment = {**os.environ, "DEEPTHIN_HOME": str(home)}
    orphan = subprocess.run([*WORKER, "0" * 16, "--parent", "1"], env=environment, check=False)
    assert orphan.returncode == -signal.SIGKILL
    idle = subprocess.run([*WORKER, "0" * 16], env=environment, check=False)
    assert idle.returncode == NOTHING_TO_DO


def job(job_id: str, model: str = "m") -> Job:
    return Job(job_id, model, "dense", JobState.QUEUED, {}, False, 0.0)


def test_the_store_keeps_its_promises(tmp_path: Path) -> None:
    store, other = JobStore(tmp_path), JobStore(tmp_path)
    try:
        store.add(job("a"), max_queued=2)
        with pytest.raises(NameTakenError, match="'m'"):
            other.add(job("b"), max_queued=2)
        other.add(job("b", "n"), max_queued=2)
        with pytest.raises(QueueFullError):
            store.add(job("c", "o"), max_queued=2)
        assert store.names() == {"m", "n"}
        assert store.start("b")
        # What ran when its service ended comes before what waits.
        assert store.next() == store.get("b")
        other.cancel("b")
        assert not store.start("b")
        assert store.finish("b", JobState.CANCELLED)
        assert not store.finish("b", JobState.SUCCEEDED)
        assert not store.start("b")
        store.add(job("d", "n"), max_queued=2)
        assert [store.died("a", again=again) for again in (True, True, False, True)] == [1, 2, 1, 2]
        assert store.forget(0) == ["b"]
        assert store.events("b") == []
        assert store.get("b") is None
    finally:
        store.close()
        other.close()


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    with store._transaction() as database:
        database.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(JobStoreError, match="version 99"):
        JobStore(tmp_path)
    (tmp_path / "jobs.sqlite3").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(JobStoreError, match="cannot be opened"):
        JobStore(tmp_path)


def test_a_lock_goes_with_its_holder(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    first, second = folders.supervisor_lock(), folders.supervisor_lock()
    assert first.acquire(wait=False)
    assert not second.acquire(wait=False)
    first.release()
    assert second.acquire(wait=False)
    second.release()
