"""Workers of jobs stand still while requests need the processor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.jobs import courtesy
from service.jobs.courtesy import Courtesy
from service.jobs.process import WorkerProcess
from service.metrics import Metrics
from service.settings import Settings
from tests.service.conftest import running
from tests.service.jobs import INSPECTOR, submit
from tests.service.jobs import until as until_job
from tests.service.test_scheduler import until

pytestmark = pytest.mark.anyio


class Runner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def hold(self) -> None:
        self.told.append("hold")

    def release(self) -> None:
        self.told.append("release")


def make(*, cores: int = 2, wanted: bool = True) -> tuple[Courtesy, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = Metrics(registry, instruction_set="scalar")
    return Courtesy(metrics, cores=cores, job_threads=1, wanted=wanted), registry


async def test_a_worker_is_held_while_requests_are_at_work() -> None:
    kind, registry = make()
    runner = Runner()
    async with kind.shown_by(runner):
        await asyncio.sleep(0.01)
        assert runner.told == []
        kind.busy(1)
        await until(lambda: runner.told == ["hold"])
        kind.busy(2)
        kind.busy(0)
        await until(lambda: runner.told == ["hold", "release"])
    assert runner.told == ["hold", "release"]
    assert (registry.get_sample_value("deepthin_job_worker_held_seconds_total") or 0) > 0


async def test_a_short_gap_between_two_stages_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "_CALM_SECONDS", 1000.0)
    kind, _ = make()
    runner = Runner()
    async with kind.shown_by(runner):
        for threads in (1, 0, 1, 0):
            kind.busy(threads)
            await asyncio.sleep(0.01)
        assert runner.told == ["hold"]
    assert runner.told == ["hold", "release"]


@pytest.mark.parametrize(("cores", "threads", "told"), [(8, 3, []), (8, 4, ["hold"]), (1, 1, ["hold"]), (1, 0, [])])
async def test_half_of_the_processors_may_be_busy(cores: int, threads: int, told: list[str]) -> None:
    kind, _ = make(cores=cores)
    runner = Runner()
    async with kind.shown_by(runner):
        kind.busy(threads)
        await asyncio.sleep(0.05)
        assert runner.told == told


async def test_a_worker_gets_a_turn_now_and_then_when_requests_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "_LONGEST_SECONDS", 0.02)
    kind, _ = make()
    runner = Runner()
    async with kind.shown_by(runner):
        kind.busy(2)
        await until(lambda: len(runner.told) >= 5)
    assert runner.told[:4] == ["hold", "release"] * 2
    assert runner.told[-1] == "release"


async def test_nothing_is_held_where_that_is_not_wanted() -> None:
    kind, _ = make(wanted=False)
    runner = Runner()
    async with kind.shown_by(runner):
        kind.busy(2)
        await asyncio.sleep(0.05)
    assert runner.told == []


def state(pid: int) -> str:
    """What Linux says that a process does."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell")
async def test_the_service_holds_its_worker(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.app.cores", lambda: 1)
    note = tmp_path / "pid"
    program = f"import os; open({str(note)!r}, 'w').write(str(os.getpid()) + ' ')\nwhile True: pass"
    app = create_app(
        settings(models=("tiny-dense",), min_free_bytes=0, job_idle=True),
        worker=(sys.executable, "-c", program),
        inspector=INSPECTOR,
    )
    async with running(app) as client:
        job = await submit(client)
        await until_job(client, job, "running")
        await until(lambda: note.exists() and note.read_text().endswith(" "))
        pid = int(note.read_text())
        await until(lambda: state(pid) == "R")
        enough = threading.Event()
        work = asyncio.create_task(app.state.scheduler.run(enough.wait, 120))
        await until(lambda: state(pid) == "T")
        enough.set()
        await work
        await until(lambda: state(pid) == "R")
        assert (await client.delete(f"/jobs/{job}")).status_code == 200


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")
async def test_a_real_worker_stands_still_and_can_be_ended_all_the_same(tmp_path: Path) -> None:
    worker = await WorkerProcess.start(
        (sys.executable, "-c", "while True: pass"), environment=os.environ, log=tmp_path / "log"
    )
    kind, _ = make()
    async with kind.shown_by(worker):
        kind.busy(1)
        await until(lambda: state(worker.pid) == "T")
        kind.busy(0)
        await until(lambda: state(worker.pid) == "R")
    worker.hold()
    await until(lambda: state(worker.pid) == "T")
    await worker.stop()
    assert await worker.wait(120) == -signal.SIGKILL


@pytest.mark.parametrize("turns", range(5))
async def test_the_end_is_not_missed_in_the_moment_of_calm(turns: int) -> None:
    kind, _ = make()
    runner = Runner()
    async with asyncio.timeout(30):
        async with kind.shown_by(runner):
            kind.busy(2)
            await until(lambda: runner.told == ["hold"])
            kind.busy(0)
            kind._calm.set()
            for _ in range(turns):
                await asyncio.sleep(0)
    assert runner.told == ["hold", "release"]
