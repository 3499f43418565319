"""Packages of several networks: compressed as one, and packages again."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from models.audio import Audio
from models.compression.base import CompressionError
from models.compression.checkpoint import CheckpointError, read
from models.compression.joined import HIDDEN, join, split
from models.compression.pipeline import run
from models.compression.spec import CompressionSpec
from models.compression.transport import pack, unpack
from models.package import MANIFEST_FILE, ModelPackage
from models.recognisers import load
from ops.library import session
from tests.compression.networks import model, random
from tests.models import ctc, moonshine
from tests.models.moonshine import START
from tests.support import babble, encode, tiny_manifest

SAYS = {START: 3, 3: 4, 4: 5}
WORDS = "hello world"


def corpus(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    rows = ["utterance\tpath\ttranscript"]
    for number in range(3):
        (folder / f"{number}.wav").write_bytes(encode(babble(1.0 + number / 4)))
        rows.append(f"{number}\t{number}.wav\t{text}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return folder


def zipped(package: ModelPackage, folder: Path, *, without: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "checkpoint.zip", "w") as archive:
        for name in (MANIFEST_FILE, *package.manifest.files):
            if name != without:
                archive.write(package.path / name, f"{package.manifest.name}/{name}")
    return folder


def test_joined_networks_compute_what_the_two_do(tmp_path: Path) -> None:
    package = moonshine.save(tmp_path, "moon", SAYS)
    networks = {name: onnx.load(package.path / name) for name in package.manifest.networks}
    joined = join(package.manifest, networks)
    onnx.checker.check_model(joined)
    assert joined.graph.output[0].name == "logits"
    assert HIDDEN not in {value.name for value in joined.graph.input}
    parts = split(package.manifest, joined)
    again = ModelPackage.save(
        tmp_path / "again",
        package.manifest,
        {
            **{name: package.path / name for name in package.manifest.files},
            **{name: part.SerializeToString() for name, part in parts.items()},
        },
    )
    for part in parts.values():
        onnx.checker.check_model(part)
    audio = Audio(babble(2.0), 16_000)
    assert load(again.path).transcribe([audio])[0].text == load(package.path).transcribe([audio])[0].text == WORDS
    wave = babble(1.0)[None]
    [one] = session((package.path / package.manifest.networks[0]).read_bytes()).run(None, {"input_values": wave})
    [other] = session(parts[package.manifest.networks[0]].SerializeToString()).run(None, {"input_values": wave})
    np.testing.assert_array_equal(one, other)


def test_a_package_of_two_networks_goes_through_a_job(tmp_path: Path) -> None:
    package = moonshine.save(tmp_path, "moon", SAYS)
    said = corpus(tmp_path / "said", "HELLO WORLD")
    spec = CompressionSpec.model_validate(
        {"method": "int8", "name": "small", "calibration": ["said"], "evaluation": ["said"], "allow_slower": True}
    )
    folder = zipped(package, tmp_path / "job")
    outcome = run(folder, spec, progress=lambda _: None, corpora=lambda _: said)
    report = json.loads(outcome.report.read_text())
    assert outcome.accepted, outcome.reasons
    assert {layer["name"]: layer["method"] for layer in report["layers"]} == {"encoder/kernel": "int8"}
    assert report["quality"]["said"]["wer"] == report["parent_quality"]["said"]["wer"] == 0
    assert report["parity"]["difference"] < report["parity"]["tolerance"]
    assert report["speed"]["rtf"] > 0
    result = ModelPackage.load(outcome.package)
    assert result.manifest.files == package.manifest.files
    assert result.manifest.parent == "moon" and result.manifest.method == "int8"
    assert load(result.path).transcribe([Audio(babble(2.0), 16_000)])[0].text == WORDS
    # The stream holds the tokenizer as well, and both networks bit for bit.
    back = unpack(outcome.transport.read_bytes(), tmp_path / "unpacked")
    assert load(back.path).transcribe([Audio(babble(2.0), 16_000)])[0].text == WORDS
    tokenizer = package.manifest.files[-1]
    assert (back.path / tokenizer).read_bytes() == (package.path / tokenizer).read_bytes()
    for name in back.manifest.networks:
        ours, theirs = (
            {tensor.name: tensor.raw_data for tensor in onnx.load(folder / name).graph.initializer}
            for folder in (back.path, result.path)
        )
        assert {name: data for name, data in theirs.items() if data}.items() <= ours.items()


def test_without_recordings_it_is_compared_on_noise(tmp_path: Path) -> None:
    package = moonshine.save(tmp_path, "moon", SAYS)
    spec = CompressionSpec(method="low-rank", size=0.9, allow_slower=True)
    outcome = run(zipped(package, tmp_path / "job"), spec, progress=lambda _: None, corpora=lambda _: tmp_path)
    report = json.loads(outcome.report.read_text())
    assert report["agreement"]["inputs"] == "random" and report["agreement"]["phones"] == 1


def letters(folder: Path) -> ModelPackage:
    """A package of the family ctc with two layers of weights."""
    weights = {
        "shape": np.array([0, -1, ctc.HOP], np.int64),
        "first": random(ctc.HOP, 24, seed=1),
        "second": random(24, len(ctc.TOKENS), seed=2, scale=2.0),
    }
    nodes = [
        helper.make_node("Reshape", ["speech", "shape"], ["frames"]),
        helper.make_node("MatMul", ["frames", "first"], ["product"]),
        helper.make_node("Tanh", ["product"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
    ]
    graph = model(nodes, weights, {"speech": ["batch", "samples"]}, {"logits": ["batch", "steps", len(ctc.TOKENS)]})
    settings = {"front_end": {"kind": "waveform"}, "blank": "<blank>"}
    manifest = tiny_manifest("letters", family="ctc", front_end=None, units=(), ctc=settings)
    tokens = "".join(f"{token} {number}\n" for number, token in enumerate(ctc.TOKENS))
    return ModelPackage.save(folder, manifest, {"model.onnx": graph.SerializeToString(), "tokens.txt": tokens.encode()})


def test_a_ctc_package_goes_through_a_job(tmp_path: Path) -> None:
    package = letters(tmp_path)
    said = corpus(tmp_path / "said", "A")
    spec = CompressionSpec.model_validate(
        {"method": "int8", "name": "small", "calibration": ["said"], "allow_slower": True}
    )
    outcome = run(zipped(package, tmp_path / "job"), spec, progress=lambda _: None, corpora=lambda _: said)
    result = ModelPackage.load(outcome.package)
    assert result.manifest.files == package.manifest.files
    report = json.loads(outcome.report.read_text())
    assert report["agreement"]["inputs"] == "recordings" and 0.9 < report["agreement"]["frames"] <= 1
    assert report["speed"]["rtf"] > 0 and set(result.manifest.methods) == {"first"}
    assert load(result.path).transcribe([Audio(babble(1.0), 16_000)])[0].words
    assert unpack(pack(result.path, {}), tmp_path / "unpacked").manifest.files == package.manifest.files


def test_a_package_without_one_of_its_files_is_refused(tmp_path: Path) -> None:
    package = moonshine.save(tmp_path, "moon", SAYS)
    folder = zipped(package, tmp_path / "job", without="tokenizer.json")
    with pytest.raises(CheckpointError, match=r"'moonshine' has no tokenizer\.json"):
        read(folder)


TUNED = {
    "method": "low-rank",
    "size": 0.3,
    "name": "small",
    "calibration": ["said"],
    "fine_tune": {"epochs": 3, "seconds": 3.0},
    "allow_slower": True,
}


def test_a_package_of_two_networks_is_trained_towards_itself(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")
    package = moonshine.save(tmp_path, "moon", SAYS, hears=True)
    said = corpus(tmp_path / "said", "HELLO WORLD")
    folder = zipped(package, tmp_path / "job")
    outcome = run(folder, CompressionSpec.model_validate(TUNED), progress=lambda _: None, corpora=lambda _: said)
    report = json.loads(outcome.report.read_text())
    tuned = report["fine_tune"]
    assert tuned["loss"] == "kl" and tuned["epoch"] >= 1
    assert tuned["after"] < 0.5 * tuned["before"]
    # Weights of both branches, which are stored once, and of the encoder are in it.
    assert {layer["name"].rpartition("_")[2] for layer in report["layers"]} >= {"first", "second"}
    assert {layer["name"].partition("/")[0] for layer in report["layers"]} == {"encoder", "decoder"}
    assert report["parity"]["difference"] < report["parity"]["tolerance"]
    # Token by token, where the other branch runs, it says what it said.
    assert load(outcome.package).transcribe([Audio(babble(2.0), 16_000)])[0].text == WORDS


def test_what_cannot_be_fine_tuned_says_so_at_once(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    package = moonshine.save(tmp_path, "moon", SAYS)
    decoder = onnx.load(package.path / "decoder_model_merged.onnx")
    decoder.graph.node[1].attribute[1].g.node[-1].op_type = "Hardmax"
    onnx.save(decoder, package.path / "decoder_model_merged.onnx")
    folder = zipped(package, tmp_path / "job")
    spec = CompressionSpec.model_validate({"method": "int8", "calibration": ["said"], "fine_tune": {"epochs": 1}})
    said = corpus(tmp_path / "said", "HELLO WORLD")
    with pytest.raises(CompressionError, match=r"Hardmax"):
        run(folder, spec, progress=lambda _: None, corpora=lambda _: said)
    assert not (folder / "stages" / "compress").exists()
