"""Models come and go under a limit on memory; no request notices but by the time it takes."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.package import ModelPackage
from models.recognisers import Recogniser, load
from models.recognisers.phones import PhoneRecogniser
from service import app as app_module
from service.hosted import ModelState
from tests.service.conftest import Serve, app_of, assert_error
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(0.5))
# Each of the tiny models says that it has 400 bytes of weights.
ONE, TWO = 800, 1200


async def states(client: httpx.AsyncClient) -> dict[str, str]:
    return {model["name"]: model["state"] for model in (await client.get("/models")).json()["models"]}


async def transcribe(client: httpx.AsyncClient, model: str) -> httpx.Response:
    return await client.post("/transcribe", params={"model": model}, content=SPEECH)


def add_a_fourth(home: Path) -> None:
    package = ModelPackage.load(home / "models" / "tiny-thin")
    fields = package.manifest.model_dump(mode="json") | {"name": "tiny-fourth"}
    (home / "models" / "tiny-fourth").mkdir()
    (home / "models" / "tiny-fourth" / "manifest.json").write_text(json.dumps(fields))
    (home / "models" / "tiny-fourth" / "model.onnx").write_bytes(package.graph_file.read_bytes())


async def test_what_does_not_fit_waits_until_it_is_asked_for(serve: Serve) -> None:
    async with serve(memory_budget_bytes=ONE) as client:
        assert await states(client) == {"tiny-dense": "ready", "tiny-thin": "ready", "tiny-recurrent": "unloaded"}
        metrics = (await client.get("/metrics")).text
        assert f"deepthin_memory_budget_bytes {float(ONE)}" in metrics
        assert 'model="tiny-recurrent"' not in metrics
        answer = await transcribe(client, "tiny-recurrent")
        assert (answer.status_code, answer.json()["model"]) == (200, "tiny-recurrent")
        assert await states(client) == {"tiny-dense": "ready", "tiny-thin": "unloaded", "tiny-recurrent": "ready"}
        metrics = (await client.get("/metrics")).text
        assert 'model="tiny-thin"' not in metrics
        assert 'deepthin_model_ready{method="dense",model="tiny-recurrent"} 1.0' in metrics
        assert "deepthin_models_unloaded_total 1.0" in metrics
        assert app_of(client).state.hub.get("tiny-thin").recogniser is None
        assert (await client.get("/readyz")).status_code == 200
        detail = (await client.get("/models/tiny-thin")).json()
        assert (detail["state"], detail["load_seconds"]) == ("unloaded", None)
        assert "asked for" in detail["reason"]


async def test_the_longest_unused_goes_and_the_default_stays(serve: Serve, home: Path) -> None:
    add_a_fourth(home)
    async with serve(memory_budget_bytes=TWO, models=()) as client:
        others = ("tiny-thin", "tiny-recurrent", "tiny-fourth")
        for name in (*others, "tiny-thin"):
            assert (await transcribe(client, name)).status_code == 200
        found = await states(client)
        loaded = {name for name in others if found[name] == "ready"}
        assert loaded == {"tiny-thin", "tiny-fourth"}
        assert (await transcribe(client, "tiny-recurrent")).status_code == 200
        found = await states(client)
        assert {name for name in others if found[name] == "ready"} == {"tiny-thin", "tiny-recurrent"}
        assert found["tiny-dense"] == "ready"


async def test_a_request_in_flight_ends_on_the_model_that_it_began_with(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, original = threading.Event(), PhoneRecogniser.features

    def slow(self: PhoneRecogniser, audio: Any) -> Any:
        if self.manifest.name == "tiny-thin":
            assert release.wait(120)
        return original(self, audio)

    async with serve(memory_budget_bytes=ONE) as client:
        monkeypatch.setattr(PhoneRecogniser, "features", slow)
        hub = app_of(client).state.hub
        begun = asyncio.create_task(transcribe(client, "tiny-thin"))
        async with asyncio.timeout(60):
            while not hub.get("tiny-thin").references:
                await asyncio.sleep(0.01)
        assert (await transcribe(client, "tiny-recurrent")).status_code == 200
        assert (await states(client))["tiny-thin"] == "unloaded"
        assert not begun.done()
        release.set()
        assert (await begun).json()["model"] == "tiny-thin"
        assert 'model="tiny-thin"' not in (await client.get("/metrics")).text


async def test_loading_blocks_nobody_and_happens_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, loads = threading.Event(), []

    def slow_load(package_dir: Path, **options: Any) -> Recogniser:
        loads.append(package_dir.name)
        if package_dir.name == "tiny-recurrent":
            assert gate.wait(120)
        return load(package_dir, **options)

    monkeypatch.setattr(app_module, "load", slow_load)
    async with serve(memory_budget_bytes=ONE) as client:
        waiting = [asyncio.create_task(transcribe(client, "tiny-recurrent")) for _ in range(3)]
        async with asyncio.timeout(60):
            while (await states(client))["tiny-recurrent"] != "loading":
                await asyncio.sleep(0.01)
        # One of those that wait goes away: the loading goes on for the others.
        waiting[0].cancel()
        for _ in range(5):
            assert (await transcribe(client, "default")).status_code == 200
            assert (await client.get("/readyz")).status_code == 200
        assert not any(task.done() for task in waiting[1:])
        gate.set()
        answers = await asyncio.gather(*waiting[1:])
        assert [answer.status_code for answer in answers] == [200, 200]
        assert loads.count("tiny-recurrent") == 1


async def test_what_is_loaded_at_the_same_time_fits_afterwards(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    gate.set()

    def gated(package_dir: Path, **options: Any) -> Recogniser:
        assert gate.wait(120)
        return load(package_dir, **options)

    add_a_fourth(home)
    monkeypatch.setattr(app_module, "load", gated)
    hosted = ("tiny-dense", "tiny-thin", "tiny-recurrent", "tiny-fourth")
    async with serve(memory_budget_bytes=ONE, models=hosted) as client:
        names = [name for name, state in (await states(client)).items() if state == "unloaded"]
        assert len(names) == 2
        gate.clear()
        asked = [asyncio.create_task(transcribe(client, name)) for name in names]
        async with asyncio.timeout(60):
            while list((await states(client)).values()).count("loading") < 2:
                await asyncio.sleep(0.01)
        gate.set()
        assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200, 200]
        found = await states(client)
        assert sorted(found[name] for name in names) == ["ready", "unloaded"]
        assert sorted(found.values()) == ["ready", "ready", "unloaded", "unloaded"]


async def test_many_requests_for_more_models_than_fit(serve: Serve) -> None:
    names = ("tiny-thin", "tiny-recurrent", "tiny-dense")
    async with serve(memory_budget_bytes=ONE) as client:
        expected = {name: (await transcribe(client, name)).json()["text"] for name in names}
        answers = await asyncio.gather(*(transcribe(client, names[index % 3]) for index in range(24)))
        for index, answer in enumerate(answers):
            assert answer.status_code == 200, answer.text
            assert answer.json()["text"] == expected[names[index % 3]]
        assert sum(state == "ready" for state in (await states(client)).values()) == 2


async def test_a_model_that_fails_when_it_is_asked_for(serve: Serve, home: Path) -> None:
    async with serve(memory_budget_bytes=ONE) as client:
        (home / "models" / "tiny-recurrent" / "model.onnx").write_bytes(b"garbage")
        response = await transcribe(client, "tiny-recurrent")
        assert_error(response, 503, code="model_not_ready", param="model")
        assert (await states(client))["tiny-recurrent"] == "failed"
        assert (await transcribe(client, "tiny-thin")).status_code == 200


async def test_a_model_that_can_never_fit_is_refused(serve: Serve) -> None:
    async with serve(memory_budget_bytes=500) as client:
        assert await states(client) == {"tiny-dense": "ready", "tiny-thin": "unloaded", "tiny-recurrent": "unloaded"}
        message = assert_error(await transcribe(client, "tiny-thin"), 503, code="model_not_ready", param="model")
        assert "DEEPTHIN_MEMORY_BUDGET_BYTES" in message
        assert (await transcribe(client, "default")).status_code == 200


async def test_promoting_loads_and_frees_the_old_default(serve: Serve) -> None:
    async with serve(memory_budget_bytes=ONE) as client:
        promoted = (await client.post("/models/tiny-recurrent/promote")).json()
        assert (promoted["state"], promoted["default"]) == ("ready", True)
        assert (await transcribe(client, "tiny-thin")).status_code == 200
        assert (await states(client))["tiny-dense"] == "unloaded"
        back = (await client.post("/models/default/rollback")).json()
        assert (back["name"], back["state"]) == ("tiny-dense", "ready")
        assert app_of(client).state.hub.get("tiny-dense").state is ModelState.READY


async def test_unloaded_models_can_be_deleted(serve: Serve, home: Path) -> None:
    async with serve(memory_budget_bytes=ONE) as client:
        assert (await client.delete("/models/tiny-recurrent")).status_code == 204
        assert set(await states(client)) == {"tiny-dense", "tiny-thin"}
        assert not (home / "models" / "tiny-recurrent").exists()
