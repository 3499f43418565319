"""Health, models, errors, keys and request ids of the whole application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from models.package import ModelPackage
from models.recognisers import Recogniser, load
from models.recognisers.phones import PhoneRecogniser
from service import app as app_module
from service.app import create_app
from service.errors import ModelNotReadyError
from service.hosted import ModelState
from service.settings import Settings
from tests.service.conftest import Serve, app_of, assert_error, running
from tests.support import babble, encode, tiny_manifest

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(0.5))


async def test_ready_when_the_default_is(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alive at once; ready when the default model is loaded, while others still load."""
    gates = {"tiny-dense": threading.Event(), "tiny-recurrent": threading.Event(), "tiny-thin": threading.Event()}

    def slow_load(package_dir: Path, **options: Any) -> Recogniser:
        assert gates[package_dir.name].wait(120)
        return load(package_dir, **options)

    monkeypatch.setattr(app_module, "load", slow_load)
    async with serve(wait=False) as client:
        try:
            assert (await client.get("/livez")).status_code == 200
            response = await client.get("/readyz")
            assert response.status_code == 503
            assert "tiny-dense is loading" in response.json()["reason"]
            response = await client.post("/transcribe", content=SPEECH)
            assert_error(response, 503, code="model_not_ready", param="model")
            assert int(response.headers["retry-after"]) >= 1

            gates["tiny-dense"].set()
            async with asyncio.timeout(120):
                while (await client.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.01)
            states = {model["name"]: model["state"] for model in (await client.get("/models")).json()["models"]}
            assert states == {"tiny-dense": "ready", "tiny-thin": "loading", "tiny-recurrent": "loading"}
            assert (await client.post("/transcribe", content=SPEECH)).status_code == 200
        finally:
            for gate in gates.values():
                gate.set()


async def test_no_models_is_not_ready(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    async with serve(home=tmp_path / "none", models=("gone",)) as client:
        assert (await client.get("/livez")).status_code == 200
        response = await client.get("/readyz")
        assert response.status_code == 503
        assert "gone" in response.json()["reason"]
        assert (await client.get("/models")).json()["models"][0]["state"] == "failed"
        assert_error(await client.post("/transcribe", content=SPEECH), 503, code="model_not_ready", param="model")


async def test_broken_model_fails_with_its_reason_and_harms_nobody(
    serve: Serve, home: Path, graphs: dict[bool, bytes]
) -> None:
    ModelPackage.save(home / "models", tiny_manifest("no-network"), b"garbage")
    ModelPackage.save(home / "models", tiny_manifest("no-graph", graph="gone"), graphs[False])
    (home / "models" / "no-manifest").mkdir()
    (home / "models" / "no-manifest" / "manifest.json").write_text("{")
    (home / "models" / "no-manifest" / "model.onnx").write_text("")
    names = ("no-network", "no-graph", "no-manifest", "tiny-dense")
    async with serve(models=names) as client:
        assert (await client.get("/readyz")).status_code == 200
        models = {model["name"]: model for model in (await client.get("/models")).json()["models"]}
        assert set(models) == set(names)
        assert models["tiny-dense"]["state"] == "ready"
        assert models["tiny-dense"]["reason"] is None
        for name, reason in (("no-network", "GraphMismatchError"), ("no-graph", "'gone'"), ("no-manifest", "not JSON")):
            assert models[name]["state"] == "failed"
            assert reason in models[name]["reason"]
            response = await client.post("/transcribe", params={"model": name}, content=SPEECH)
            assert_error(response, 503, code="model_not_ready", param="model")
        assert (await client.post("/transcribe", content=SPEECH)).status_code == 200


async def test_models_are_described(client: httpx.AsyncClient) -> None:
    listing = (await client.get("/models")).json()
    assert listing["default"] == "tiny-dense"
    assert [model["name"] for model in listing["models"]] == ["tiny-dense", "tiny-thin", "tiny-recurrent"]
    thin = (await client.get("/models/tiny-thin")).json()
    assert thin == listing["models"][1]
    assert thin["family"] == "tfkaldi"
    assert thin["method"] == "deepthin"
    assert thin["relative_size"] == 0.02
    assert thin["parent"] == "tiny-dense"
    assert thin["disk_bytes"] == thin["resident_bytes"] == 400
    assert thin["wer"] == {"an4-test": 0.27}
    assert thin["wer_delta"]["an4-test"] == pytest.approx(0.02)
    assert thin["state"] == "ready"
    assert (await client.get("/models/default")).json()["name"] == "tiny-dense"
    assert_error(await client.get("/models/nothing"), 404, code="model_not_found", param="model")


async def test_default_is_the_first_wanted_when_the_default_is_not_hosted(serve: Serve) -> None:
    async with serve(models=("tiny-thin", "tiny-recurrent")) as client:
        assert (await client.post("/transcribe", content=SPEECH)).json()["model"] == "tiny-thin"


async def test_framework_errors_have_the_one_shape(client: httpx.AsyncClient) -> None:
    assert_error(await client.get("/nowhere"), 404, code="not_found")
    response = await client.get("/transcribe")
    assert_error(response, 405, code="method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_unexpected_failure_is_a_500_without_internals(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(PhoneRecogniser, "features", explode)
    response = await client.post("/transcribe", content=SPEECH, headers={"x-request-id": "abc-1"})
    assert "secret" not in assert_error(response, 500, code="internal_error")
    assert response.headers["x-request-id"] == "abc-1"
    assert "secret detail" in caplog.text
    monkeypatch.undo()
    assert (await client.post("/transcribe", content=SPEECH)).status_code == 200
    assert app_of(client).state.scheduler.admitted == 0


async def test_request_ids(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez", headers={"x-request-id": "mine.7"})).headers["x-request-id"] == "mine.7"
    first, second = [(await client.get("/nowhere")).headers["x-request-id"] for _ in range(2)]
    assert first != second
    for harmful in ("a b", "x" * 200, "<script>"):
        sent = (await client.get("/livez", headers={"x-request-id": harmful})).headers["x-request-id"]
        assert sent != harmful
        assert sent.isalnum()


async def test_api_keys(serve: Serve) -> None:
    async with serve(api_keys="first,second") as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "first"},
            {"authorization": "Bearer "},
        ):
            for response in (
                await client.get("/models", headers=headers),
                await client.post("/transcribe", content=SPEECH, headers=headers),
            ):
                assert_error(response, 401, code="invalid_api_key")
                assert response.headers["www-authenticate"] == "Bearer"
        for key in ("first", "second"):
            response = await client.post("/transcribe", content=SPEECH, headers={"authorization": f"Bearer {key}"})
            assert response.status_code == 200
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def test_cors_is_off(client: httpx.AsyncClient) -> None:
    response = await client.get("/livez", headers={"origin": "http://elsewhere.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_unloading_waits_for_requests_and_forgets_the_series(client: httpx.AsyncClient) -> None:
    app = app_of(client)
    assert (await client.post("/transcribe", params={"model": "tiny-thin"}, content=SPEECH)).status_code == 200
    assert 'model="tiny-thin"' in (await client.get("/metrics")).text
    async with app.state.hub.lease("tiny-thin"):
        unloading = asyncio.create_task(app.state.hub.unload("tiny-thin"))
        await asyncio.sleep(0.05)
        assert not unloading.done()
        assert app.state.hub.get("tiny-thin").state is ModelState.UNLOADING
        with pytest.raises(ModelNotReadyError):
            app.state.hub.require_usable("tiny-thin")
    await asyncio.wait_for(unloading, 120)
    response = await client.post("/transcribe", params={"model": "tiny-thin"}, content=SPEECH)
    assert_error(response, 404, code="model_not_found", param="model")
    text = (await client.get("/metrics")).text
    assert 'model="tiny-thin"' not in text
    assert 'model="tiny-dense"' in text
    assert (await client.get("/readyz")).status_code == 200


async def test_openapi_describes_the_upload(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/transcribe"]["post"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {"model", "decoder"}
    assert "multipart/form-data" in operation["requestBody"]["content"]
    assert {"200", "400", "404", "413", "415", "422", "503"} <= set(operation["responses"])


async def test_apps_share_nothing(settings: Callable[..., Settings]) -> None:
    registry = CollectorRegistry()
    async with running(create_app(settings(), registry)) as first, running(create_app(settings())) as second:
        await first.post("/transcribe", content=SPEECH)
        assert "deepthin_audio_seconds_total{" in (await first.get("/metrics")).text
        assert "deepthin_audio_seconds_total{" not in (await second.get("/metrics")).text
    assert registry.get_sample_value("deepthin_audio_seconds_total", {"model": "tiny-dense", "method": "dense"}) == 0.5
