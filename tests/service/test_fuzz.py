"""Whatever bytes arrive, the answer is never a server error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import running
from tests.support import babble, encode

SEEDS = [
    encode(babble(0.3)),
    encode(babble(0.3), codec="pcm_f32le"),
    encode(babble(0.3, rate=48_000), container="flac", codec="flac", rate=48_000, layout="stereo"),
    encode(babble(0.3), container="mp3", codec="libmp3lame"),
    encode(babble(0.3, rate=48_000), container="ogg", codec="libopus", rate=48_000),
    encode(babble(0.3, rate=48_000), container="webm", codec="libopus", rate=48_000),
    encode(babble(0.3), container="mp4", codec="aac"),
]
FUZZ = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """POST to one application that outlives all examples of this file."""
    from models.package import ModelPackage
    from tests.support import tiny_graph, tiny_manifest

    home = tmp_path_factory.mktemp("fuzz")
    ModelPackage.save(home / "models", tiny_manifest("tiny"), tiny_graph(recurrent=False))
    options = Settings(home=home, models=("tiny",), threads=2, max_seconds=5, max_bytes=1 << 20, batch_wait_seconds=0)
    app: FastAPI = create_app(options)
    with asyncio.Runner() as runner:
        context = running(app)
        client = runner.run(context.__aenter__())
        yield lambda path="/transcribe", **request: runner.run(client.post(path, **request))
        runner.run(context.__aexit__(None, None, None))
        assert app.state.scheduler.admitted == 0


def check(response: httpx.Response) -> None:
    assert response.status_code in (200, 400, 413, 415, 422), f"{response.status_code}: {response.text}"
    body = response.json()
    if response.status_code == 200:
        assert isinstance(body["text"], str)
        assert body["duration_seconds"] <= 5
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid recording with bytes overwritten, removed, inserted or repeated."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    # Headers decide most, so most mutations go there.
    near = st.integers(0, min(200, len(data) - 1))
    anywhere = st.integers(0, len(data) - 1)
    for _ in range(draw(st.integers(1, 8))):
        position = min(draw(near | anywhere), max(len(data) - 1, 0))
        chunk = draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"]))
        match draw(st.sampled_from(("overwrite", "insert", "delete", "cut", "repeat"))):
            case "overwrite":
                data[position : position + len(chunk)] = chunk
            case "insert":
                data[position:position] = chunk
            case "delete":
                del data[position : position + draw(st.integers(1, 64))]
            case "cut":
                del data[max(position, 1) :]
            case "repeat":
                data[position:position] = data[position : position + 256]
    return bytes(data)


@FUZZ
@given(data=mutated())
def test_mutated_recordings(post: Post, data: bytes) -> None:
    check(post(content=data))


@FUZZ
@given(data=st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"RIFF\xff\xff\xff\xffWAVEfmt " + tail))
def test_random_bytes(post: Post, data: bytes) -> None:
    check(post(content=data))


@FUZZ
@given(
    content_type=st.sampled_from(
        ["multipart/form-data; boundary=x", "multipart/form-data", "audio/wav", "", "text/plain"]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    data=st.lists(
        st.sampled_from(
            [b"--x", b"--x--", b"\r\n", b'Content-Disposition: form-data; name="file"', b'; filename="a"', b"\r\n\r\n"]
        )
        | st.binary(max_size=20)
    ).map(b"".join),
)
def test_random_forms(post: Post, content_type: str, data: bytes) -> None:
    check(post(content=data, headers={"content-type": content_type}))


@FUZZ
@given(params=st.dictionaries(st.text(max_size=8) | st.sampled_from(["model", "decoder"]), st.text(max_size=12)))
def test_random_parameters(post: Post, params: dict[str, str]) -> None:
    response = post(content=SEEDS[0], params=params)
    assert response.status_code in (200, 400, 404), f"{response.status_code}: {response.text}"


@FUZZ
@given(data=mutated())
def test_mutated_recordings_are_compared(post: Post, data: bytes) -> None:
    response = post("/compare", content=data, params={"models": "tiny"})
    assert response.status_code in (200, 400, 413, 415, 422), f"{response.status_code}: {response.text}"


@FUZZ
@given(
    params=st.dictionaries(
        st.sampled_from(["models", "reference", "decoder"]) | st.text(max_size=8),
        st.lists(st.sampled_from(["tiny", "default", "", " "]) | st.text(max_size=6), max_size=12).map(",".join),
    )
)
def test_random_parameters_of_comparisons(post: Post, params: dict[str, str]) -> None:
    response = post("/compare", content=SEEDS[0], params=params)
    assert response.status_code in (200, 400, 404), f"{response.status_code}: {response.text}"


def test_still_answers_afterwards(post: Post) -> None:
    response = post(content=SEEDS[0])
    assert response.status_code == 200
    assert response.json()["text"]
