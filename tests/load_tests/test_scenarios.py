"""The scenarios against a service that is played, the reports they end in, and once against the real one."""

from __future__ import annotations

import asyncio
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from load_tests import scenarios, tables
from load_tests.__main__ import main
from load_tests.jobs import JobsError, running_jobs
from load_tests.page import page
from load_tests.report import Report
from load_tests.scenarios import Bench, Result, ScenarioError
from load_tests.target import Clip, own_clips
from load_tests.watch import Memory, watching
from service.app import create_app
from service.settings import Settings
from tests.load_tests.played import MODELS, Played
from tests.service.conftest import running
from tests.service.jobs import INSPECTOR, WORKER

CLIP = Clip("clip.wav", b"RIFF", "audio/wav")
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def play(app: Played, scenario: Callable[[Bench], Awaitable[Result]], pace: float = 0.02) -> Result:
    async def session() -> Result:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await scenario(Bench(client, [CLIP], cores=2, pace=pace, tell=lambda text: None))

    return asyncio.run(session())


def test_capacity_measures_every_ready_model_the_parents_first():
    app = Played()
    result = play(app, scenarios.capacity)
    assert list(result.figures) == ["net-dense", "net-small"]
    assert set(app.asked) == set(MODELS)
    for name, figures in result.figures.items():
        saturated = next(run for title, run in result.runs.items() if title == f"{name}, all it can")
        assert figures["streams_per_core"] == pytest.approx(saturated.audio_seconds_per_second / 2)
        assert figures["live_streams"] == max(1, int(0.8 * saturated.audio_seconds_per_second))
        # The played service takes a thousandth of a second of the processor for a recording of two seconds.
        assert 1000 < figures["audio_per_processor_second"] < 4000
    assert result.limit is None and result.kept
    assert result.memory[0].service == 50_000_000


def test_overload_is_compared_with_usual_load():
    app = Played(seconds=0.01, room=4)
    result = play(app, scenarios.overload, pace=0.05)
    usual, loaded = result.runs["80% load"], result.runs["10 x overload"]
    assert loaded.requests > 3 * usual.requests
    assert loaded.shed > 0 and loaded.ok > 0
    assert usual.ok > 0
    assert usual.latency_p99 and loaded.latency_p99
    assert result.ratio == pytest.approx(loaded.latency_p99 / usual.latency_p99)
    assert result.limit == 2.0


def test_a_service_that_is_slower_beside_a_job_breaks_the_promise():
    app = Played(seconds=0.01, slower=8.0, room=1000)
    result = play(app, scenarios.job_beside, pace=0.05)
    assert result.ratio is not None and result.ratio > result.limit == 1.3
    assert not result.kept
    assert list(result.runs) == ["no job", "a job beside"]
    assert b'"host": false' in app.specs[0] and b"PK a package" in app.specs[0]
    assert set(app.jobs.values()) == {"cancelled"}
    assert max(point.worker for point in result.memory) in (0, 7_000_000)
    assert 0 < result.figures["default"]["worker_held"] < 1
    assert "The job stood still for" in tables.verdict(result)


def test_jobs_are_kept_running():
    async def session() -> int:
        app = Played(outcome="succeeded")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            async with running_jobs(client, "net-dense", "deepthin", 0.02) as jobs:
                async with asyncio.timeout(60):
                    while jobs.ended < 2:
                        await asyncio.sleep(0.01)
            assert len(app.jobs) >= 3
            return jobs.failed

    assert asyncio.run(session()) == 0


def test_jobs_that_only_fail_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("load_tests.jobs._POLL_SECONDS", 0.001)

    async def session() -> None:
        app = Played(outcome="failed", job_stage="validate")
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
            running_jobs(client, "net-dense", "deepthin", 0.02) as jobs,
            asyncio.timeout(60),
        ):
            while jobs.failed < 3:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)

    with pytest.raises(JobsError, match="no such weight"):
        asyncio.run(session())


def test_a_job_that_never_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("load_tests.jobs._PATIENCE_SECONDS", 0.05)

    async def session() -> None:
        app = Played(job_stage="validate")
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
        async with client, running_jobs(client, "net-dense", "deepthin", 0.02):
            raise AssertionError("nothing runs beside")

    with pytest.raises(JobsError, match="did not get to work"):
        asyncio.run(session())


def test_a_service_that_answers_nothing_gives_no_figures():
    with pytest.raises(ScenarioError, match="answered none"):
        play(Played(room=0), scenarios.overload)


def test_a_watch_outlives_lost_scrapes():
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async def session() -> list[Memory]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(fail), base_url="http://test") as client:
            async with watching(client, every=0.001) as watch:
                await asyncio.sleep(0.02)
            return watch.memory

    assert asyncio.run(session()) == []


def report(p95: float | None, errors: int = 0) -> Report:
    return Report(10.0, 20, 15, 5 - errors, errors, 3.5, 0.1, p95, 0.4, 0.001, {"200": 15, "503": 5 - errors})


def results() -> list[Result]:
    memory = [Memory(0.0, 50_000_000, 0), Memory(1.0, 60_000_000, 9_000_000)]
    figures = {
        "net<dense>": {
            "streams_per_core": 31.4,
            "audio_per_processor_second": 40.2,
            "live_streams": 50,
            "live_p50": 0.05,
            "live_p99": 0.21,
            "live_shed": 0,
        }
    }
    return [
        Result("capacity", {"net<dense>, all it can": report(0.2)}, figures, memory),
        Result("overload", {"80% load": report(0.2), "10 x overload": report(0.3)}, {}, memory, 1.5, 2.0),
        Result("job-beside", {"no job": report(0.2), "a job beside": report(None)}, {}, [], 1.4, 1.3),
    ]


def test_the_page_stands_alone_and_is_well_formed():
    html = page(results(), "2 cores of <that>")
    ElementTree.fromstring(re.sub(r"<!doctype html>|<meta [^>]*>", "", html))
    assert "http" not in html and "<script" not in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<svg") == 5
    assert "net&lt;dense&gt;" in html and "<that>" not in html
    assert "1.50 times as long; promised: at most 2 times (kept)" in html
    assert "1.40 times as long; promised: at most 1.3 times (missed)" in html


def test_a_promise_is_broken_by_an_error_too():
    good = Result("overload", {"a": report(0.2)}, ratio=1.0, limit=2.0)
    bad = Result("overload", {"a": report(0.2, errors=1)}, ratio=1.0, limit=2.0)
    nothing = Result("overload", {"a": report(0.2)}, ratio=None, limit=2.0)
    assert (good.kept, bad.kept, nothing.kept) == (True, False, False)


def test_a_run_that_is_cut_off_leaves_what_it_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, *_ = results()

    async def found(bench: scenarios.Bench) -> Result:
        return first

    async def cut_off(bench: scenarios.Bench) -> Result:
        raise ScenarioError("the service is gone")

    monkeypatch.setattr("load_tests.__main__.SCENARIOS", {"capacity": found, "overload": cut_off})
    docs = tmp_path / "page.md"
    docs.write_text(f"{tables.BEGIN}\n{tables.END}\n")
    assert main(["all", "--url", "http://127.0.0.1:9", "--out", str(tmp_path), "--docs", str(docs)]) == 1
    assert [row["name"] for row in json.loads((tmp_path / "load.json").read_text())["results"]] == ["capacity"]
    assert "| `net<dense>` |" in docs.read_text()


def test_tables_go_between_the_markers_and_nowhere_else():
    text = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    written = tables.into(text, results(), "a machine")
    assert written.startswith("before\n") and written.endswith("\nafter\n")
    assert "old" not in written
    assert "| `net<dense>` | 31 | 40 | 50 | 50 ms | 210 ms | 0 |" in written
    assert "| a job beside | 20 | 15 | 5 | 0 | 3.5 | 100 ms | - | 400 ms | 1 ms |" in written
    assert "**missed**" in written


def test_the_runbook_has_room_for_the_tables():
    assert tables.into(PAGE.read_text(encoding="utf-8"), results(), "a machine")


def test_the_real_application_under_all_three_loads(home: Path):
    """Tiny models and a pipeline that is played; everything between the client and these is what runs for real."""
    settings = Settings(
        home=home, models=("tiny-dense", "tiny-thin"), threads=2, min_free_bytes=0, job_nice=0, job_idle=False
    )

    async def session() -> list[Result]:
        async with running(create_app(settings, worker=WORKER, inspector=INSPECTOR)) as client:
            bench = Bench(client, own_clips(), cores=2, pace=0.02, tell=lambda text: None)
            return [
                await scenarios.capacity(bench),
                await scenarios.overload(bench),
                await scenarios.job_beside(bench, parent="tiny-dense", method="dense", size=1.0),
            ]

    capacity, overload, beside = asyncio.run(session())
    assert set(capacity.figures) == {"tiny-dense", "tiny-thin"}
    for result in (capacity, overload, beside):
        assert result.memory[0].service > 10_000_000
        for title, run in result.runs.items():
            assert run.errors == 0, (title, run.details)
            assert run.ok > 0 or not run.requests, title
    assert overload.ratio is not None and beside.ratio is not None


def test_the_command_starts_a_service_loads_it_and_writes_all_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """What is checked is that all of it works, not how fast."""
    docs = tmp_path / "page.md"
    docs.write_text(f"{tables.BEGIN}\n{tables.END}\n")
    main(["overload", "--pace", "0.02", "--out", str(tmp_path), "--docs", str(docs)])
    (overload,) = json.loads((tmp_path / "load.json").read_text())["results"]
    assert overload["memory"][0][1] > 10_000_000
    for title, run in overload["runs"].items():
        assert run["errors"] == 0, (title, run["details"])
    assert overload["runs"]["10 x overload"]["ok"] > 0
    assert "| 10 x overload |" in docs.read_text()
    assert "<svg" in (tmp_path / "load.html").read_text()
    assert "load.json" in capsys.readouterr().out
