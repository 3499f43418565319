"""What strangers may not post to `/compress` is refused at once, with what is wrong, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.jobs import inspection, inspector
from service.jobs.inspection import Inspection
from service.settings import Settings
from tests.compression import networks
from tests.service import hostile
from tests.service.conftest import Compress, assert_error, running
from tests.service.hostile import (
    SPEECH,
    WHOLE,
    Upload,
    changed,
    corpus,
    header,
    network,
    package,
    packed,
    raw,
    table,
    tensors,
    wish,
)
from tests.service.jobs import finished, form, submit, zipped

Post = Callable[..., httpx.Response]
IDLE = (sys.executable, "-c", "import time; time.sleep(600)")
MANIFEST = b'{"format": 1'
GIANT = hostile.CONFIG.replace(b"20]", b"2000000000]")
RULE = [{"pattern": "nothing*", "method": "int8"}]
CODE_FILE = Path("/tmp/deepthin-was-here")

UPLOADS = {
    # Files that are no networks.
    "text": raw(b"what a nice network this is", "not an ONNX model"),
    "only the beginning": raw(WHOLE[:-100], "only the beginning"),
    "something behind the end": raw(WHOLE + b"\x00\x00", "not an ONNX model"),
    "bytes of the graph lost": raw(WHOLE.replace(b"MatMul", 6 * b"\xff"), "no text in UTF-8"),
    "no graph": raw(networks.model([], {}, {}, {}).SerializeToString(), "empty one"),
    "a pickle": raw(hostile.PICKLE, "not an ONNX model"),
    "a pickle by its name": raw(hostile.PICKLE, "pickles can run code", "net.pt", 415),
    "a pickle as safetensors": Upload(
        "checkpoint", "not a safetensors file", {"checkpoint": ("n.safetensors", hostile.PICKLE), "config": ("c", b"")}
    ),
    "a PyTorch checkpoint": package("no model package", {"archive/data.pkl": hostile.PICKLE}),
    "a zip file by another name": raw(zipped({"model.onnx": WHOLE}), "not an ONNX model"),
    # Weights.
    "weights elsewhere": network(hostile.elsewhere("weights.bin"), "layer0.weight is kept in another file"),
    "weights of another user": network(hostile.elsewhere("/etc/passwd"), "is kept in another file"),
    "weights beside the folder": package(
        "no file of the package", {"model.onnx": changed(hostile.elsewhere("../../secret"))}
    ),
    "weights that are missing": package("has no w.bin", {"model.onnx": changed(hostile.elsewhere("w.bin"))}),
    "a weight that is missing": network(lambda model: model.graph.initializer.pop(0), "layer0.weight"),
    "a weight cut short": network(hostile.cut_short, "layer0.weight has 4604 bytes where its shape takes 4608"),
    "a giant by its shape": network(hostile.resized(1 << 40, 1 << 40), "layer0.weight has 4608 bytes"),
    "a negative axis": network(hostile.resized(-24, -48), "layer0.weight has a negative axis"),
    "a weight of another shape": network(hostile.resized(48, 24), "ONNX"),
    "weights that do not fit": network(hostile.misfit, "ONNX Runtime cannot open the network.*(47|dimension)"),
    "a weight that is no number": network(hostile.poisoned(np.nan), "layer0.weight holds values that are not numbers"),
    "an infinite weight": network(hostile.poisoned(np.inf), "layer0.weight holds values that are not finite"),
    "a bias that is no number": network(hostile.poisoned(np.nan, 1), "layer0.bias holds values that are not numbers"),
    "a weight of texts": network(hostile.strings, "ONNX"),
    "a sparse weight": network(hostile.sparse, "sparse"),
    # Structure.
    "a cycle": network(hostile.cyclic, "breaks the rules of ONNX"),
    "a value twice": network(hostile.doubled, "breaks the rules of ONNX"),
    "operators of tomorrow": network(hostile.opset(9999), "breaks the rules of ONNX|opset"),
    "operators of no version": network(hostile.opset(0), "ONNX|opset"),
    "operators of no set": network(lambda model: model.opset_import.pop(), "ONNX|opset"),
    "an unknown operator": network(lambda m: setattr(m.graph.node[0], "op_type", "Frobnicate"), "Frobnicate"),
    "an unknown domain": network(hostile.foreign("com.example", "MatMul"), "'com.example' is not supported"),
    "compressed already": network(hostile.foreign("deepthin", "DeepThinMatMul"), "compressed already"),
    "axes that are not there": network(hostile.twisted, "ONNX|cannot be used"),
    "a function of itself": network(hostile.recursive, "'f' of the network calls itself"),
    "a billion nodes by functions": network(hostile.laughing(30), "more than 200000 nodes"),
    "functions without end": network(hostile.laughing(300), "'f.*' of the network calls itself, or others too many"),
    "too many nodes": network(hostile.crowded, "more than 200000 nodes"),
    "nothing to compress": raw(networks.feed_forward(sizes=(3, 4, 2)).SerializeToString(), "no weight that can be"),
    # Packages.
    "no zip file": raw(b"PK\x03\x04" + bytes(100), "not a zip file", "net.zip"),
    "a way out": package("path that is not allowed", {"../../evil.onnx": WHOLE}),
    "an absolute path": package("path that is not allowed", {"/etc/evil.onnx": WHOLE}),
    "a link": raw(hostile.linked(), "link or device", "net.zip"),
    "a zip bomb": raw(hostile.bomb(), "zip bomb", "net.zip"),
    "many files": package("65 members; 64 are allowed", {f"{n}.onnx": b"x" for n in range(65)}),
    "a damaged zip file": raw(hostile.damaged(), "model.onnx of the zip file cannot be unpacked", "net.zip"),
    "two networks": package("without a manifest there is one .onnx file", {"a.onnx": WHOLE, "b.onnx": WHOLE}),
    "half a manifest": package("manifest.json", {"manifest.json": MANIFEST, "model.onnx": WHOLE}),
    "an endless manifest": package("manifest.json", {"manifest.json": b"[" * 100_000, "model.onnx": WHOLE}),
    "an unknown family": packed("family", family="whisper"),
    "another network than promised": packed(r"features of model tiny has shape", graph=WHOLE),
    "fewer units than promised": packed("log_probs of model tiny has shape", units=["<blank>", "a", "b"]),
    "no such states": packed("its manifest promises", states=[{"input": "s", "output": "t", "shape": [4]}]),
    "a family without its files": packed(
        "has no tokens.txt|ctc", family="ctc", units=[], front_end=None, ctc={"tokens": "tokens.txt"}
    ),
    # Tensors with a configuration.
    "a header longer than the file": header("{", "safetensors", b"\xff"),
    "a header that is not JSON": header('{"a": ', "cannot be read"),
    "tensors outside the file": header(
        '{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', "cannot be read", bytes(8)
    ),
    "a tensor larger than its bytes": header(
        '{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]}}', "cannot be read", bytes(8)
    ),
    "a tensor that is missing": tensors("tensor top.0.bias is missing", {"top.0.bias": None}),
    "a tensor too many": tensors("does not: evil", {"evil": networks.random(3)}),
    "a tensor of another shape": tensors(r"top.0.weight is \[16, 25\]", {"top.0.weight": networks.random(16, 25)}),
    "a tensor of integers": tensors("top.0.bias is int64", {"top.0.bias": np.zeros(16, np.int64)}),
    "a tensor of no numbers": tensors("not numbers", {"top.0.bias": np.full(16, np.nan, np.float32)}),
    "a configuration of giants": tensors("configuration makes it", config=GIANT),
    "a configuration that is none": tensors("not TOML", config=b"\xff\xfe", param="config"),
    "a configuration of whispers": tensors("family", config=b'name = "a"\nfamily = "whisper"', param="config"),
    # Corpora.
    "no table": corpus("evaluation", "no manifest.tsv", {"a.wav": SPEECH}),
    "no recordings": corpus("calibration", "no recordings", {"a.txt": b"hello"}),
    "a table without columns": corpus("evaluation", "no column utterance", {"manifest.tsv": b"a\tb\n1\t2\n"}),
    "a table that is no text": corpus("evaluation", "not UTF-8", {"manifest.tsv": b"\xff\xfe"}),
    "an endless row": corpus("evaluation", "not a table", {"manifest.tsv": table("u\ta.wav\t" + "x" * 200_000)}),
    "recordings that are missing": corpus("evaluation", "u1 of .* is not in", {"manifest.tsv": table("u1\ta.wav\tA")}),
    "recordings of others": corpus(
        "calibration", "u1 of .* is not in", {"manifest.tsv": table("u1\t../../../../etc/passwd\tA"), "a.wav": SPEECH}
    ),
    # Wishes that this network cannot grant.
    "a rule for nothing": wish("spec.compress", "'nothing.' matches no weight", method=None, size=None, compress=RULE),
    "a size out of reach": wish("spec.size", "low-rank cannot store", size=1e-5),
    "nothing of that kind": wish("spec.size", "makes none of the weights smaller", method="separable-conv"),
    "features of another width": wish("spec.front_end", "gives 40 values a frame", front_end={"bins": 40}),
}  # fmt: skip


async def in_this_process(_: Inspection, folder: Path, log: Path) -> tuple[int, list[Mapping[str, Any]]]:
    """What the inspector would say: a process for each of so many files would take minutes."""
    log.touch()
    said = inspector.what_is_wrong(folder, Settings(job_memory_bytes=1 << 36))
    return 0, [] if said is None else [said]


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """POST to `/compress` of one application, whose worker has nothing to do; it must refuse and keep nothing."""
    home = tmp_path_factory.mktemp("hostile")
    options = Settings(home=home, models=("gone",), min_free_bytes=0)
    with asyncio.Runner() as runner:
        context = running(create_app(options, worker=IDLE))
        client = runner.run(context.__aenter__())

        def send(**request: Any) -> httpx.Response:
            before = set((home / "jobs").iterdir())
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Inspection, "_ask", in_this_process)
                response = runner.run(client.post("/compress", **request))
            assert response.is_client_error, response.text
            assert set((home / "jobs").iterdir()) <= before
            return response

        yield send
        runner.run(context.__aexit__(None, None, None))


@pytest.mark.parametrize("name", UPLOADS)
def test_it_is_refused_at_once(post: Post, name: str) -> None:
    upload = UPLOADS[name]
    response = post(**form({"name": None, "method": "low-rank", "size": 0.5, **upload.spec}, **upload.files))
    code = "unsupported_checkpoint" if upload.status == 415 else "invalid_parameter"
    message = assert_error(response, upload.status, code=code, param=upload.param)
    assert re.search(upload.says, message), message
    assert not CODE_FILE.exists()


@pytest.mark.anyio
async def test_a_process_of_its_own_finds_it(compress: Compress, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_SECONDS", 120.0)
    async with compress(inspector=inspection.INSPECTOR) as client:
        response = await client.post("/compress", **form({"method": "int8"}, **UPLOADS["an infinite weight"].files))
        message = assert_error(response, 400, code="invalid_parameter", param="checkpoint")
        assert "layer0.weight holds values that are not finite" in message
        assert not [entry for entry in (home / "jobs").iterdir() if entry.is_dir()]
        job = await submit(client, {"method": "int8", "host": False}, checkpoint=("net.onnx", WHOLE))
        assert (await finished(client, job))["state"] == "succeeded"


@pytest.mark.anyio
async def test_what_kills_the_inspector_is_refused(compress: Compress, home: Path) -> None:
    async with compress(inspector=("sh", "-c", "kill -SEGV $$")) as client:
        message = assert_error(
            await client.post("/compress", **form()), 400, code="invalid_parameter", param="checkpoint"
        )
        assert "died of SIGSEGV" in message
    assert not [entry for entry in (home / "jobs").iterdir() if entry.is_dir()]


@pytest.mark.anyio
@pytest.mark.parametrize("program", ["kill -KILL $$", "sleep 600", "exit 1"])
async def test_what_cannot_be_inspected_is_left_to_the_job(
    compress: Compress, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(inspection, "_SECONDS", 0.2)
    async with compress(inspector=("sh", "-c", program)) as client:
        assert (await finished(client, await submit(client)))["state"] == "succeeded"


@pytest.mark.anyio
async def test_a_mistake_of_the_inspector_is_told_without_its_details(compress: Compress) -> None:
    said = '{"message": "checkpoint cannot be used", "param": "checkpoint", "trace": "secret"}'
    async with compress(inspector=("echo", said, "#")) as client:
        response = await client.post("/compress", **form())
        assert "secret" not in response.text
