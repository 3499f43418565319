"""`POST /transcribe` with recordings as clients send them."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.audio import decode
from models.package import ModelPackage
from models.recognisers import load
from tests.service.conftest import Serve, app_of, assert_error
from tests.support import RATE, UNITS, WORDS, babble, encode, tiny_decoding_graph, tiny_manifest

pytestmark = pytest.mark.anyio

FORMATS = [
    pytest.param("wav", "pcm_s16le", RATE, "mono", "audio/wav", id="wav"),
    pytest.param("wav", "pcm_s16le", 8_000, "mono", "audio/x-wav", id="wav 8 kHz"),
    pytest.param("wav", "pcm_s24le", 96_000, "stereo", "audio/wav", id="wav 96 kHz 24 bit stereo"),
    pytest.param("wav", "pcm_f32le", 22_050, "mono", "audio/wav", id="wav float"),
    pytest.param("wav", "pcm_s16le", 48_000, "7.1", "audio/wav", id="wav 8 channels"),
    pytest.param("wav", "pcm_mulaw", 8_000, "mono", "audio/wav", id="wav mu-law"),
    pytest.param("flac", "flac", 44_100, "stereo", "audio/flac", id="flac stereo"),
    pytest.param("mp3", "libmp3lame", 44_100, "stereo", "audio/mpeg", id="mp3"),
    pytest.param("ogg", "libopus", 48_000, "mono", "audio/ogg", id="ogg opus"),
    pytest.param("ogg", "flac", 44_100, "stereo", "application/ogg", id="ogg flac"),
    pytest.param("webm", "libopus", 48_000, "stereo", "video/webm", id="webm"),
    pytest.param("mp4", "aac", 44_100, "stereo", "audio/mp4", id="m4a"),
    pytest.param("aiff", "pcm_s16be", 11_025, "mono", "", id="aiff, no content type"),
]
SPEECH = encode(babble(1.0))


@pytest.mark.parametrize(("container", "codec", "rate", "layout", "content_type"), FORMATS)
async def test_formats(
    client: httpx.AsyncClient, container: str, codec: str, rate: int, layout: str, content_type: str
) -> None:
    data = encode(babble(1.5, rate=rate), container=container, codec=codec, rate=rate, layout=layout)
    raw = await client.post("/transcribe", content=data, headers={"content-type": content_type} if content_type else {})
    multipart = await client.post("/transcribe", files={"file": ("anything", data)})
    assert raw.status_code == multipart.status_code == 200, raw.text + multipart.text
    answer = raw.json()
    assert answer["text"] == multipart.json()["text"] != ""
    assert answer["duration_seconds"] == pytest.approx(1.5, abs=0.12)


async def test_answer_is_that_of_the_model(client: httpx.AsyncClient, home: Path) -> None:
    answer = (await client.post("/transcribe", content=SPEECH)).json()
    recogniser = load(home / "models" / "tiny-dense")
    [expected] = recogniser.transcribe([decode(SPEECH)])
    assert answer["text"] == expected.text
    assert [(word["text"], word["start"], word["end"]) for word in answer["words"]] == [
        (word.text, word.start, word.end) for word in expected.words
    ]
    assert all(0 <= word["confidence"] <= 1 for word in answer["words"])
    assert answer["model"] == "tiny-dense"
    assert answer["method"] == "dense"
    assert answer["decoder"] == "greedy"
    assert answer["duration_seconds"] == 1.0
    assert answer["processing_seconds"] > 0


async def test_every_model_answers_in_its_own_name(client: httpx.AsyncClient) -> None:
    texts = {}
    for name, method in (("tiny-dense", "dense"), ("tiny-thin", "deepthin"), ("tiny-recurrent", "dense")):
        answer = (await client.post("/transcribe", params={"model": name}, content=SPEECH)).json()
        assert (answer["model"], answer["method"]) == (name, method)
        texts[name] = answer["text"]
    default = (await client.post("/transcribe", params={"model": "default"}, content=SPEECH)).json()
    assert default["model"] == "tiny-dense"
    assert default["text"] == texts["tiny-dense"] == texts["tiny-thin"] != texts["tiny-recurrent"]


async def test_decoder_is_chosen_by_parameter(serve: Serve, home: Path, graphs: dict[bool, bytes]) -> None:
    tiny_decoding_graph(home / "models" / "graphs" / "words")
    ModelPackage.save(home / "models", tiny_manifest("tiny-words", graph="words"), graphs[False])
    async with serve(models=("tiny-words",)) as client:
        for params, decoder in (({}, "graph"), ({"decoder": "graph"}, "graph"), ({"decoder": "greedy"}, "greedy")):
            answer = (await client.post("/transcribe", params=params, content=SPEECH)).json()
            assert answer["decoder"] == decoder
            said = {word["text"].upper() for word in answer["words"]}
            assert said <= set(WORDS if decoder == "graph" else UNITS)
        model = (await client.get("/models/default")).json()
        assert model["graph"] == "words"
        assert model["graph_bytes"] == (home / "models" / "graphs" / "words" / "graph.bin").stat().st_size
        labels = {"model": "tiny-words", "method": "dense", "graph": "words"}
        registry = app_of(client).state.metrics.registry
        assert registry.get_sample_value("deepthin_model_graph_bytes", labels) == model["graph_bytes"]


@pytest.mark.parametrize("model", ["tiny-dense", "tiny-recurrent"])
async def test_concurrent_requests_get_their_own_answers(serve: Serve, model: str) -> None:
    clips = [encode(babble(0.3 + 0.15 * seed, seed=seed)) for seed in range(16)]

    async def text(client: httpx.AsyncClient, clip: bytes) -> str:
        response = await client.post("/transcribe", params={"model": model}, content=clip)
        assert response.status_code == 200
        return str(response.json()["text"])

    async with serve(batch_size=1) as client:
        alone = [await text(client, clip) for clip in clips]
    async with serve(batch_size=8, batch_wait_seconds=1.0, queue_wait_seconds=60) as client:
        together = await asyncio.gather(*(text(client, clip) for clip in clips))
        registry = app_of(client).state.metrics.registry
        labels = {"model": model, "method": "dense"}
        assert registry.get_sample_value("deepthin_batch_size_count", labels) < len(clips)
    assert together == alone
    assert len(set(alone)) == len(clips)


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.full(2 * RATE, 0.5)], ids=["zeros", "constant"])
async def test_silence_gives_empty_text_even_after_speech(client: httpx.AsyncClient, samples: np.ndarray) -> None:
    assert (await client.post("/transcribe", content=SPEECH)).json()["text"]
    response = await client.post("/transcribe", content=encode(samples.astype(np.float32)))
    assert response.status_code == 200
    assert response.json()["text"] == ""
    assert response.json()["words"] == []
    assert response.json()["duration_seconds"] == len(samples) / RATE


async def test_samples_that_are_no_numbers_do_not_spread(client: httpx.AsyncClient) -> None:
    samples = babble(1.0)
    samples[100:200] = np.nan
    samples[300] = np.inf
    samples[400] = -np.inf
    samples[500:510] = 3e38
    response = await client.post("/transcribe", content=encode(samples, codec="pcm_f32le"))
    assert response.status_code == 200
    assert (await client.post("/transcribe", content=SPEECH)).json()["text"]


async def test_recording_of_one_sample(client: httpx.AsyncClient) -> None:
    response = await client.post("/transcribe", content=encode(np.full(1, 0.5, np.float32)))
    assert response.status_code == 200
    assert response.json()["text"] == ""


@pytest.mark.parametrize("data", [b"hello", b"\0" * 5000, b"RIFF", b"ID3", bytes(range(256)) * 40, b"{}", b"#!/bin/sh"])
async def test_what_is_no_audio_is_415(client: httpx.AsyncClient, data: bytes) -> None:
    for response in (
        await client.post("/transcribe", content=data, headers={"content-type": "audio/wav"}),
        await client.post("/transcribe", files={"file": ("a.wav", data, "audio/wav")}),
    ):
        assert_error(response, 415, code="unsupported_audio", param="file")


async def test_playlists_are_no_audio(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """A container that names other files would read them from the server's disk."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(SPEECH)
    for playlist in (f"ffconcat version 1.0\nfile '{secret}'\n", f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n"):
        response = await client.post("/transcribe", content=playlist.encode())
        assert_error(response, 415, code="unsupported_audio", param="file")


async def test_wav_without_samples_is_422(client: httpx.AsyncClient) -> None:
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", 0
    )
    response = await client.post("/transcribe", content=header)
    assert_error(response, 422, code="unusable_audio", param="file")


async def test_cut_off_recordings_give_what_is_there_or_a_clear_error(client: httpx.AsyncClient) -> None:
    for container, codec in (
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("ogg", "libopus"),
        ("mp4", "aac"),
        ("webm", "libopus"),
    ):
        whole = encode(babble(2.0, rate=48_000), container=container, codec=codec, rate=48_000)
        for share in (0.9, 0.5, 0.1, 0.01):
            response = await client.post("/transcribe", content=whole[: max(1, int(len(whole) * share))])
            assert response.status_code in (200, 415, 422), (container, share, response.text)


async def test_claimed_length_means_nothing(client: httpx.AsyncClient) -> None:
    """A header that promises hours of audio must cost neither memory nor a refusal."""
    honest = encode(babble(0.5))
    data = bytearray(honest)
    position = data.index(b"data") + 4
    data[position : position + 4] = struct.pack("<I", 0xFFFFFFF0)
    data[4:8] = struct.pack("<I", 0xFFFFFFFF)
    response = await client.post("/transcribe", content=bytes(data))
    assert response.status_code == 200
    assert response.json()["duration_seconds"] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["raw", "multipart"])
async def test_too_long_is_413(serve: Serve, kind: str) -> None:
    async with serve(max_seconds=1.0) as client:
        for seconds, status in ((0.9, 200), (1.5, 413)):
            data = encode(babble(seconds))
            body = {"content": data} if kind == "raw" else {"files": {"file": ("a.wav", data)}}
            response = await client.post("/transcribe", **body)
            assert response.status_code == status
        assert "1 seconds" in assert_error(response, 413, code="audio_too_long", param="file")


@pytest.mark.parametrize("kind", ["raw", "multipart", "unannounced"])
async def test_too_many_bytes_is_413(serve: Serve, kind: str) -> None:
    read = 0

    async def endless() -> object:
        nonlocal read
        for _ in range(10_000):
            read += 1000
            yield bytes(1000)

    async with serve(max_bytes=50_000) as client:
        data = bytes(60_000)
        match kind:
            case "raw":
                response = await client.post("/transcribe", content=data)
            case "multipart":
                response = await client.post("/transcribe", files={"file": ("a.wav", data)})
            case _:
                response = await client.post("/transcribe", content=endless())
                assert read <= 52_000
        assert_error(response, 413, code="request_too_large", param="file")
        assert (await client.post("/transcribe", content=encode(babble(1.0)))).status_code == 200


async def test_slow_body_is_408(serve: Serve) -> None:
    async def slow() -> object:
        yield SPEECH[:100]
        await asyncio.sleep(5)
        yield SPEECH[100:]

    async with serve(body_timeout_seconds=0.05) as client:
        assert_error(await client.post("/transcribe", content=slow()), 408, code="request_timeout")


async def test_missing_recording_is_400(client: httpx.AsyncClient) -> None:
    assert_error(await client.post("/transcribe"), 400, code="missing_file", param="file")
    assert_error(
        await client.post("/transcribe", content=b"", headers={"content-type": "audio/wav"}),
        400,
        code="missing_file",
        param="file",
    )
    assert_error(
        await client.post("/transcribe", files={"file": ("a.wav", b"")}), 400, code="missing_file", param="file"
    )
    text = {"content-type": "multipart/form-data; boundary=x"}
    for form in (
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\njust text\r\n--x--\r\n',
        b"--x--\r\n",
        b"",
    ):
        assert_error(
            await client.post("/transcribe", content=form, headers=text), 400, code="missing_file", param="file"
        )


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=", b"--x--"),
        ("multipart/form-data; boundary=x", b"garbage"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="fi'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n"),
    ],
)
async def test_broken_multipart_is_400(client: httpx.AsyncClient, header: str, body: bytes) -> None:
    response = await client.post("/transcribe", content=body, headers={"content-type": header})
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_two_files_are_400(client: httpx.AsyncClient) -> None:
    files = [("file", ("a.wav", SPEECH)), ("file", ("b.wav", SPEECH))]
    response = await client.post("/transcribe", files=files)
    assert response.status_code == 400


async def test_other_content_types_are_415(client: httpx.AsyncClient) -> None:
    for content_type in ("application/json", "text/plain", "image/png"):
        response = await client.post("/transcribe", content=SPEECH, headers={"content-type": content_type})
        assert content_type in assert_error(response, 415, code="unsupported_audio")


async def test_unknown_parameters_are_400(client: httpx.AsyncClient) -> None:
    response = await client.post("/transcribe", params={"language": "de"}, content=SPEECH)
    assert "'language'" in assert_error(response, 400, code="unknown_parameter", param="language")
    response = await client.post("/transcribe", data={"prompt": "hi"}, files={"file": ("a.wav", SPEECH)})
    assert "'prompt'" in assert_error(response, 400, code="unknown_parameter", param="prompt")


async def test_bad_parameters_are_400(client: httpx.AsyncClient) -> None:
    for params, param in (
        ({"decoder": "magic"}, "decoder"),
        ({"decoder": "graph"}, "decoder"),
        ({"model": ""}, "model"),
        ([("model", "tiny-dense"), ("model", "tiny-thin")], "model"),
    ):
        response = await client.post("/transcribe", params=params, content=SPEECH)
        assert_error(response, 400, code="invalid_parameter", param=param)


@pytest.mark.parametrize("name", ["nothing", "../tiny-dense", "tiny-dense/", "\0", "x" * 5000, "graphs"])
async def test_unknown_model_is_404(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/transcribe", params={"model": name}, content=SPEECH)
    assert_error(response, 404, code="model_not_found", param="model")
