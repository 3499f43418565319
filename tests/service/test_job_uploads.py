"""What strangers may post to `/compress`."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.app import create_app
from service.jobs import uploads
from service.jobs.folders import JobFolders
from service.settings import Settings
from tests.service.conftest import Compress, assert_error, running
from tests.service.jobs import INSPECTOR, ONNX, finished, form, submit, zipped

BOUNDARY = {"content-type": "multipart/form-data; boundary=x"}
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


def left_over(home: Path) -> list[str]:
    """What uploads left in the folder of jobs."""
    return [entry.name for entry in (home / "jobs").iterdir() if entry.is_dir()]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("filename", "status", "code"),
    [
        ("net.pt", 415, "unsupported_checkpoint"),
        ("net.ckpt", 415, "unsupported_checkpoint"),
        ("net", 415, "unsupported_checkpoint"),
        ("net.onnx.exe", 415, "unsupported_checkpoint"),
        ("net.zip", 400, "invalid_parameter"),
        ("net.safetensors", 400, "missing_file"),
    ],
)
async def test_the_file_name_decides_the_kind(
    compress: Compress, home: Path, filename: str, status: int, code: str
) -> None:
    async with compress() as client:
        response = await client.post("/compress", **form(checkpoint=(filename, ONNX)))
        param = "config" if filename.endswith(".safetensors") else "checkpoint"
        message = assert_error(response, status, code=code, param=param)
        assert ("pickles" in message) == (filename in ("net.pt", "net.ckpt"))
        assert (await client.get("/jobs")).json()["jobs"] == []
    assert left_over(home) == []


@pytest.mark.anyio
async def test_names_like_paths_are_names(compress: Compress, home: Path) -> None:
    async with compress() as client:
        for number, filename in enumerate(("../../../tmp/evil.onnx", "/etc/evil.onnx", "..\\evil.ONNX", "a\0b.onnx")):
            spec = {"name": f"model-{number}", "host": False}
            job_id = await submit(client, spec, checkpoint=(filename, ONNX))
            assert (await finished(client, job_id))["state"] == "succeeded"
    assert not list(home.rglob("*evil*"))
    assert not list(home.parent.glob("*evil*"))


@pytest.mark.anyio
async def test_files_that_are_not_what_they_claim(compress: Compress, home: Path) -> None:
    bad_zip = b"PK\x03\x04" + bytes(100)
    cases: list[tuple[dict[str, tuple[str, bytes]], str]] = [
        ({"checkpoint": ("m.zip", bad_zip)}, "checkpoint"),
        ({"checkpoint": ("m.zip", zipped({"../../evil": b"x"}))}, "checkpoint"),
        ({"checkpoint": ("m.zip", zipped({"data.pkl": b"x"}))}, "checkpoint"),
        ({"evaluation": ("c.zip", zipped({"/etc/evil": b"x"}))}, "evaluation"),
        ({"checkpoint": ("m.onnx", b"PK\x03\x04" + bytes(100))}, "checkpoint"),
        ({"checkpoint": ("m.onnx", pickle.dumps({"weight": [1.0] * 100}))}, "checkpoint"),
        ({"checkpoint": ("m.onnx", ONNX[:-1])}, "checkpoint"),
        ({"checkpoint": ("m.onnx", ONNX + b"\x08")}, "checkpoint"),
        ({"checkpoint": ("m.onnx", b"\x08\x08")}, "checkpoint"),
        ({"checkpoint": ("m.onnx", b"\xff" * 40)}, "checkpoint"),
        ({"calibration": ("c.zip", bad_zip)}, "calibration"),
        ({"evaluation": ("c.zip", b"hello")}, "evaluation"),
        ({"config": ("c.toml", b"")}, "config"),
        ({"checkpoint": ("m.safetensors", b"\xff" * 40), "config": ("c.toml", b"")}, "checkpoint"),
        ({"checkpoint": ("m.safetensors", b"{"), "config": ("c.toml", b"")}, "checkpoint"),
    ]
    async with compress() as client:
        for files, param in cases:
            response = await client.post("/compress", **form(**files))
            assert_error(response, 400, code="invalid_parameter", param=param)
        files = {"checkpoint": ("m.safetensors", SAFETENSORS), "config": ("c.toml", b"")}
        assert (await finished(client, await submit(client, {"host": False}, **files)))["state"] == "succeeded"
    assert len(left_over(home)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ("", "spec"),
        ("{", "spec"),
        ("[]", "spec"),
        ("null", "spec"),
        ("[" * 100_000, "spec"),
        ('{"method": "dense", "size": NaN}', "spec.size"),
        (b"\xff\xfe", "spec"),
        ({"method": "magic"}, "spec.method"),
        ({"size": 0}, "spec.size"),
        ({"size": "small"}, "spec.size"),
        ({"layers": []}, "spec.layers"),
        ({"compress": [{"pattern": "*", "method": "dense", "volume": 1}]}, "spec.compress.0.volume"),
        ({"name": None, "method": None}, "spec"),
        ({"max_wer_delta": 0.1}, "spec"),
        ({"calibration": "upload"}, "spec.calibration"),
    ],
)
async def test_a_wrong_spec_names_its_field(compress: Compress, home: Path, spec: Any, param: str) -> None:
    async with compress() as client:
        response = await client.post("/compress", **form(spec))
        assert_error(response, 400, code="invalid_parameter", param=param)
    assert left_over(home) == []


@pytest.mark.anyio
async def test_forms_that_are_none(compress: Compress, home: Path) -> None:
    def part(name: str, *, filename: str = "", data: bytes = b"x") -> bytes:
        ending = f'; filename="{filename}"' if filename else ""
        return f'--x\r\nContent-Disposition: form-data; name="{name}"{ending}\r\n\r\n'.encode() + data + b"\r\n"

    checkpoint, spec, end = part("checkpoint", filename="a.onnx"), part("spec", data=b"{}"), b"--x--\r\n"
    async with compress() as client:
        response = await client.post("/compress", content=ONNX, headers={"content-type": "application/octet-stream"})
        assert_error(response, 415, code="unsupported_checkpoint")
        response = await client.post("/compress", content=b"", headers={"content-type": "multipart/form-data"})
        assert_error(response, 400, code="invalid_request")
        for body, code, param in (
            (b"", "invalid_request", None),
            (b"garbage", "invalid_request", None),
            (checkpoint + spec, "invalid_request", None),
            (end, "missing_file", "checkpoint"),
            (spec + end, "missing_file", "checkpoint"),
            (part("checkpoint", filename="a.onnx", data=b"") + spec + end, "missing_file", "checkpoint"),
            (part("checkpoint") + spec + end, "missing_file", "checkpoint"),
            (checkpoint + end, "missing_file", "spec"),
            (checkpoint + checkpoint + end, "invalid_parameter", "checkpoint"),
            (checkpoint + spec + spec + end, "invalid_parameter", "spec"),
            (checkpoint + part("file") + end, "unknown_parameter", "file"),
            (b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n" + end, "unknown_parameter", None),
            (b"--x\r\nX-Long: " + b"y" * 20_000 + b"\r\n\r\n" + end, "invalid_request", None),
            (b"--x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(99)) + b"\r\n" + end, "invalid_request", None),
        ):
            response = await client.post("/compress", content=body, headers=BOUNDARY)
            assert_error(response, 400, code=code, param=param)
        response = await client.post("/compress", params={"overwrite": "true"}, **form())
        assert_error(response, 400, code="unknown_parameter", param="overwrite")
    assert left_over(home) == []


@pytest.mark.anyio
async def test_what_is_too_large_is_refused_before_it_fills_the_disk(compress: Compress, home: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="checkpoint"; filename="a.onnx"\r\n\r\n'
        for _ in range(10_000):
            sent += 1000
            yield bytes(1000)

    async with compress(max_checkpoint_bytes=50_000, max_corpus_bytes=1000) as client:
        response = await client.post("/compress", **form(checkpoint=("a.onnx", bytes(60_000))))
        assert_error(response, 413, code="request_too_large", param="checkpoint")
        response = await client.post("/compress", content=endless(), headers=BOUNDARY)
        assert_error(response, 413, code="request_too_large", param="checkpoint")
        assert sent < 60_000
        response = await client.post("/compress", **form(calibration=("c.zip", bytes(2000))))
        assert_error(response, 413, code="request_too_large", param="calibration")
        response = await client.post("/compress", **form(checkpoint=("a.onnx", bytes(3_000_000))))
        message = assert_error(response, 413, code="request_too_large", param="checkpoint")
        assert "DEEPTHIN_MAX_CHECKPOINT_BYTES" in message
        # The larger limit is that of this path alone.
        response = await client.post("/transcribe", content=bytes(34_000_000))
        assert_error(response, 413, code="request_too_large", param="file")
    assert left_over(home) == []


@pytest.mark.anyio
async def test_a_slow_upload_is_408(compress: Compress, home: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="checkpoint"; filename="a.onnx"\r\n\r\nabc'
        await asyncio.sleep(60)

    async with compress(upload_timeout_seconds=0.1) as client:
        assert_error(await client.post("/compress", content=slow(), headers=BOUNDARY), 408, code="request_timeout")
    assert left_over(home) == []


@pytest.mark.anyio
async def test_a_full_disk_is_507(compress: Compress, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(home).free
    async with compress(min_free_bytes=2 * free) as client:
        assert_error(await client.post("/compress", **form()), 507, code="insufficient_storage")
    async with compress() as client:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(uploads._FormReader, "feed", full)
        assert_error(await client.post("/compress", **form()), 507, code="insufficient_storage")
    assert left_over(home) == []


def test_what_a_dead_service_left_is_swept_away_in_time(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    old, known, young = "0" * 16, "1" * 16, "2" * 16
    for name in (".upload-old", old, known, young, ".upload-young", "unrelated"):
        (tmp_path / name).mkdir()
    for name in (".upload-old", old, known, "unrelated"):
        os.utime(tmp_path / name, (time.time() - 1e6,) * 2)
    folders.sweep({known})
    assert {entry.name for entry in tmp_path.iterdir()} == {known, young, ".upload-young", "unrelated"}


FUZZ = hypothesis_settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """POST to `/compress` of one application that outlives all examples, and whose worker has nothing to do."""
    home = tmp_path_factory.mktemp("fuzz")
    idle = (sys.executable, "-c", "import time; time.sleep(600)")
    options = Settings(home=home, models=("gone",), max_queued_jobs=10_000, min_free_bytes=0, max_checkpoint_bytes=4096)
    app: FastAPI = create_app(options, worker=idle, inspector=INSPECTOR)
    with asyncio.Runner() as runner:
        context = running(app)
        client = runner.run(context.__aenter__())
        yield lambda **request: runner.run(client.post("/compress", **request))
        response = runner.run(client.get("/jobs", params={"limit": 1000}))
        assert response.status_code == 200
        assert len([entry for entry in (home / "jobs").iterdir() if entry.is_dir()]) == len(response.json()["jobs"])
        assert not list(home.glob("jobs/.upload-*"))
        runner.run(context.__aexit__(None, None, None))


def check(response: httpx.Response) -> None:
    assert response.status_code in (202, 400, 409, 413, 415), f"{response.status_code}: {response.text}"
    if response.status_code != 202:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        "name",
        "method",
        "size",
        "rank",
        "compress",
        "budget",
        "calibration",
        "evaluation",
        "fine_tune",
        "front_end",
        "host",
    ]
)


@FUZZ
@given(changes=st.dictionaries(FIELDS | st.text(max_size=8), JSON, max_size=4))
def test_random_specs(post: Post, changes: dict[str, Any]) -> None:
    check(post(**form({"name": None, **changes})))


@FUZZ
@given(
    filename=st.text(min_size=1, max_size=20).map(lambda stem: stem + ".onnx") | st.text(min_size=1), data=st.binary()
)
def test_random_files(post: Post, filename: str, data: bytes) -> None:
    check(post(**form({"name": None}, checkpoint=(filename, data))))


@FUZZ
@given(
    data=st.lists(
        st.sampled_from(
            [
                b"--x",
                b"--x--",
                b"\r\n",
                b'Content-Disposition: form-data; name="checkpoint"; filename="a.onnx"',
                b'Content-Disposition: form-data; name="spec"',
                b"\r\n\r\n",
                b'{"method": "dense"}',
            ]
        )
        | st.binary(max_size=20),
        max_size=20,
    ).map(b"".join)
)
def test_random_forms(post: Post, data: bytes) -> None:
    check(post(content=data, headers=BOUNDARY))
