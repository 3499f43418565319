"""`POST /compare`: one recording through several models."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from models.transcript import Transcript
from service import transcription
from service.hosted import ModelState
from tests.service.conftest import Serve, app_of, assert_error
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(1.0))
BOTH = "tiny-thin,tiny-dense"
SAID = "the cold man sat down"


async def compare(client: httpx.AsyncClient, models: str = BOTH, **params: str) -> dict[str, Any]:
    response = await client.post("/compare", params={"models": models, **params}, content=SPEECH)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_every_model_answers_as_it_does_alone(client: httpx.AsyncClient) -> None:
    comparison = await compare(client, "tiny-thin,tiny-recurrent")
    assert comparison["reference"] == "tiny-thin"
    assert comparison["duration_seconds"] == 1.0
    assert [answer["model"] for answer in comparison["answers"]] == ["tiny-thin", "tiny-recurrent"]
    described = {model["name"]: model for model in (await client.get("/models")).json()["models"]}
    for answer in comparison["answers"]:
        alone = (await client.post("/transcribe", params={"model": answer["model"]}, content=SPEECH)).json()
        for field in ("text", "words", "method", "decoder", "duration_seconds"):
            assert answer[field] == alone[field]
        for field in ("disk_bytes", "resident_bytes", "transport_bytes"):
            assert answer[field] == described[answer["model"]][field]
        assert 0 < answer["real_time_factor"] <= answer["processing_seconds"] / answer["duration_seconds"] + 1e-5


async def test_differences_are_counted_against_the_reference(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["the old man sat", SAID])

    def transcript(*_: object, **__: object) -> Transcript:
        return Transcript(next(said), (), 1.0)

    hub = app_of(client).state.hub
    for name in BOTH.split(","):
        monkeypatch.setattr(hub.get(name).recogniser, "transcript", transcript)
    thin, dense = (await compare(client, reference="tiny-dense"))["answers"]
    assert dense["differences"] == {
        "substituted": 0,
        "deleted": 0,
        "inserted": 0,
        "ratio": 0.0,
        "edits": [
            {"kind": "same", "reference": word, "hypothesis": word} for word in ["the", "cold", "man", "sat", "down"]
        ],
    }
    assert {field: thin["differences"][field] for field in ("substituted", "deleted", "inserted", "ratio")} == {
        "substituted": 1,
        "deleted": 1,
        "inserted": 0,
        "ratio": 0.4,
    }
    assert thin["differences"]["edits"][1] == {"kind": "substituted", "reference": "cold", "hypothesis": "old"}


async def test_nothing_said_has_no_ratio(client: httpx.AsyncClient) -> None:
    silence = encode(0 * babble(0.5))
    response = await client.post("/compare", params={"models": BOTH}, files={"file": ("a.wav", silence)})
    assert response.status_code == 200
    for answer in response.json()["answers"]:
        assert answer["text"] == ""
        assert answer["differences"] == {"substituted": 0, "deleted": 0, "inserted": 0, "ratio": None, "edits": []}


async def test_the_recording_is_decoded_once(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    decode = transcription.decode

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(options["sample_rate"])
        return decode(*args, **options)

    monkeypatch.setattr(transcription, "decode", counted)
    await compare(client, "tiny-dense,tiny-thin,tiny-recurrent")
    assert calls == [16_000]


async def test_models_may_be_named_by_their_alias(client: httpx.AsyncClient) -> None:
    comparison = await compare(client, "default, tiny-thin", reference="default")
    assert comparison["reference"] == "tiny-dense"
    assert [answer["model"] for answer in comparison["answers"]] == ["tiny-dense", "tiny-thin"]
    assert len((await compare(client, "tiny-thin", decoder="greedy"))["answers"]) == 1


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({}, "invalid_parameter", "models"),
        ({"models": ""}, "invalid_parameter", "models"),
        ({"models": "tiny-thin,tiny-thin"}, "invalid_parameter", "models"),
        ({"models": "default,tiny-dense"}, "invalid_parameter", "models"),
        ({"models": ",".join(["tiny-thin"] * 9)}, "invalid_parameter", "models"),
        ({"models": "," * 10_000}, "invalid_parameter", "models"),
        ([("models", "tiny-thin"), ("models", "tiny-dense")], "invalid_parameter", "models"),
        ({"models": "tiny-thin", "reference": "tiny-dense"}, "invalid_parameter", "reference"),
        ({"models": "tiny-thin", "reference": ""}, "invalid_parameter", "reference"),
        ({"models": "tiny-thin", "decoder": "graph"}, "invalid_parameter", "decoder"),
        ({"models": "tiny-thin", "decoder": "magic"}, "invalid_parameter", "decoder"),
        ({"models": "tiny-thin", "model": "tiny-dense"}, "unknown_parameter", "model"),
    ],
)
async def test_bad_parameters_are_400(client: httpx.AsyncClient, params: Any, code: str, param: str) -> None:
    assert_error(await client.post("/compare", params=params, content=SPEECH), 400, code=code, param=param)


@pytest.mark.parametrize("name", ["nothing", "", "../tiny-dense", "\0", "<script>", "x" * 5000])
async def test_unknown_models_are_404(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/compare", params={"models": f"tiny-thin,{name}"}, content=SPEECH)
    assert_error(response, 404, code="model_not_found", param="models")
    if name:
        response = await client.post("/compare", params={"models": "tiny-thin", "reference": name}, content=SPEECH)
        assert_error(response, 404, code="model_not_found", param="reference")


async def test_a_model_that_is_not_ready_is_503(client: httpx.AsyncClient) -> None:
    app_of(client).state.hub.get("tiny-thin").state = ModelState.LOADING
    response = await client.post("/compare", params={"models": BOTH}, content=SPEECH)
    assert_error(response, 503, code="model_not_ready", param="models")
    assert int(response.headers["retry-after"]) >= 1


async def test_bodies_are_checked_as_for_one_model(serve: Serve) -> None:
    async with serve(max_seconds=0.5, max_bytes=100_000, api_keys="key") as client:
        key, params = {"authorization": "Bearer key"}, {"models": BOTH}
        for content, status, code in (
            (b"", 400, "missing_file"),
            (b"no audio at all" * 10, 415, "unsupported_audio"),
            (SPEECH, 413, "audio_too_long"),
            (bytes(200_000), 413, "request_too_large"),
        ):
            response = await client.post("/compare", params=params, content=content, headers=key)
            assert_error(response, status, code=code, param="file")
        assert_error(await client.post("/compare", params=params, content=SPEECH), 401, code="invalid_api_key")
        assert app_of(client).state.scheduler.admitted == 0


async def test_a_full_queue_sheds_and_models_are_held_only_while_they_answer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    decode = transcription.decode

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return decode(*args, **options)

    monkeypatch.setattr(transcription, "decode", slow)
    async with serve(queue_length=1) as client:
        first = asyncio.create_task(client.post("/compare", params={"models": BOTH}, content=SPEECH))
        try:
            await asyncio.to_thread(begun.wait, 60)
            response = await client.post("/compare", params={"models": BOTH}, content=SPEECH)
            assert_error(response, 503, code="overloaded")
            assert int(response.headers["retry-after"]) >= 1
            hub = app_of(client).state.hub
            assert [hub.get(name).references for name in BOTH.split(",")] == [1, 0]
        finally:
            go.set()
        assert (await first).status_code == 200
        assert [hub.get(name).references for name in BOTH.split(",")] == [0, 0]
        text = (await client.get("/metrics")).text
        assert 'deepthin_requests_total{route="/compare",status="200",verb="POST"} 1.0' in text
        assert 'deepthin_audio_seconds_total{method="deepthin",model="tiny-thin"} 1.0' in text


async def test_openapi_describes_it(client: httpx.AsyncClient) -> None:
    operation = (await client.get("/openapi.json")).json()["paths"]["/compare"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["models", "reference", "decoder"]
    assert {"200", "400", "404", "413", "415", "422", "503"} <= set(operation["responses"])
