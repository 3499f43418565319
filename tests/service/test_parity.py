"""The check of every hosted model in the background, and that the series of models stay bounded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from service import app
from service.parity import ParityWatch
from tests.service.conftest import Compress, Serve
from tests.service.jobs import finished, script, submit, until
from tests.service.test_metrics import Samples, scrape, value
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

ERROR = "deepthin_model_parity_error_ratio"
THIN = {"model": "tiny-thin", "method": "deepthin"}
CHECKER = """
import json, pathlib, sys
with open(pathlib.Path(sys.argv[0]).with_name("asked"), "a") as asked:
    asked.write(" ".join(pathlib.Path(folder).name for folder in sys.argv[1:]) + "\\n")
for folder in sys.argv[1:]:
    answer = {"difference": 0.25, "tolerance": 0.001, "operators": 3, "worst": "y"}
    if folder.endswith("tiny-dense"):
        answer = {"difference": 0.0, "tolerance": 0.001, "operators": 0, "worst": ""}
    elif folder.endswith("tiny-recurrent"):
        answer = {"error": "not today"}
    print(json.dumps({"folder": folder, **answer}))
"""


@pytest.fixture
def checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a program check the models that notes what it was asked in `asked` beside it."""
    program = tmp_path / "checker" / "checker.py"
    program.parent.mkdir()
    program.write_text(CHECKER)
    command = (sys.executable, str(program))
    monkeypatch.setattr(app, "ParityWatch", lambda hub, metrics: ParityWatch(hub, metrics, command=command))
    return program.with_name("asked")


async def until_known(client: httpx.AsyncClient, **labels: str) -> Samples:
    """The metrics once the parity of a model is among them."""
    async with asyncio.timeout(60):
        while True:
            samples = await scrape(client)
            if (ERROR, frozenset(labels.items())) in samples:
                return samples
            await asyncio.sleep(0.1)


async def test_models_are_checked_once_and_what_is_found_is_published(serve: Serve, checker: Path) -> None:
    async with serve(self_check=True) as client:
        samples = await until_known(client, **THIN)
        assert value(samples, ERROR, **THIN) == 0.25
        assert value(samples, "deepthin_model_parity_tolerance_ratio", **THIN) == 0.001
        # Neither a model without such operators nor one that cannot be checked has a parity.
        assert len([labels for name, labels in samples if name == ERROR]) == 1
        await asyncio.sleep(1.5)
    asked = [name for line in checker.read_text().splitlines() for name in line.split()]
    assert sorted(asked) == ["tiny-dense", "tiny-recurrent", "tiny-thin"]


async def test_a_check_that_says_nothing_is_no_harm(serve: Serve, checker: Path) -> None:
    checker.with_name("checker.py").write_text(f"open({str(checker)!r}, 'a').write('x'); raise SystemExit(1)")
    async with serve(self_check=True) as client:
        async with asyncio.timeout(60):
            while not checker.exists():
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        assert not [labels for name, labels in await scrape(client) if name == ERROR]
        assert (await client.get("/readyz")).status_code == 200


async def test_a_loop_of_jobs_leaves_no_series_behind(compress: Compress) -> None:
    speech = encode(babble(0.5))

    async def round_trip(client: httpx.AsyncClient, name: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        assert (await finished(client, await submit(client, {"name": name})))["state"] == "succeeded"
        assert (await client.post("/transcribe", params={"model": name}, content=speech)).status_code == 200
        hosted = {labels for _, labels in await scrape(client) if ("model", name) in labels}
        assert len(hosted) >= 5
        assert (await client.delete(f"/models/{name}")).status_code == 204
        return set(await scrape(client))

    async with compress() as client:
        await round_trip(client, "made-0")
        before = await round_trip(client, "made-1")
        for number in range(2, 6):
            after = await round_trip(client, f"made-{number}")
        assert after == before


async def test_the_memory_of_a_worker_is_told_while_it_runs(compress: Compress, home: Path) -> None:
    script(home, made={"seconds": 1.0})
    async with compress() as client:
        job = await submit(client)
        await until(client, job, "running", stage="compress")
        during = value(await scrape(client), "deepthin_job_worker_resident_memory_bytes")
        await client.delete(f"/jobs/{job}")
        assert value(await scrape(client), "deepthin_job_worker_resident_memory_bytes") == 0
    assert (during > 1e6) == Path("/proc/self/statm").exists()


async def test_readiness_is_a_series(serve: Serve) -> None:
    async with serve() as client:
        assert value(await scrape(client), "deepthin_ready") == 1
    async with serve(models=("tiny-gone",)) as client:
        assert value(await scrape(client), "deepthin_ready") == 0
