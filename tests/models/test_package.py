"""Model packages: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import ManifestError, NoTranscriptionError, PackageError, PackageMissingError
from models.package import GRAPH_FILE, MANIFEST_FILE, ModelPackage, parse_manifest
from models.recognisers import load
from ops.errors import DeepThinError
from tests.support import tiny_manifest


def test_saved_package_is_read_back(tmp_path: Path) -> None:
    manifest = tiny_manifest("tiny", recurrent=True, decoder={"beam": 12.5, "max_active": 2000})
    saved = ModelPackage.save(tmp_path, manifest, b"graph")
    loaded = ModelPackage.load(tmp_path / "tiny")
    assert loaded.manifest == manifest == saved.manifest
    assert loaded.graph_file.read_bytes() == b"graph"
    assert loaded.disk_bytes() == 5 + (tmp_path / "tiny" / MANIFEST_FILE).stat().st_size


def test_saving_again_replaces_the_package_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ModelPackage.save(tmp_path, tiny_manifest("tiny", description="old"), b"old")
    ModelPackage.save(tmp_path, tiny_manifest("tiny", description="new"), b"new")
    assert ModelPackage.load(tmp_path / "tiny").manifest.description == "new"
    assert (tmp_path / "tiny" / GRAPH_FILE).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("missing", [MANIFEST_FILE, GRAPH_FILE])
def test_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    ModelPackage.save(tmp_path, tiny_manifest("tiny"), b"graph")
    (tmp_path / "tiny" / missing).unlink()
    with pytest.raises(PackageMissingError, match=missing):
        ModelPackage.load(tmp_path / "tiny")


def _set(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.update(fields)


def _drop(field: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.pop(field)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_drop("units"), "needs front_end and at least two units"),
        (_set(front_end=None), "needs front_end and at least two units"),
        (_set(family="network", graph="english"), "has no decoding graph"),
        (_set(methods={"w": "NO NAME"}), "methods.w"),
        (_set(units=["AA", "<blank>"]), "first unit must be '<blank>'"),
        (_set(units=["<blank>", "AA", "AA"]), "same unit"),
        (_set(unknown=1), "unknown: Extra inputs are not permitted"),
        (_set(format=2), "format 2; this version reads format 1"),
        (_set(name="../escape"), "name: String should match"),
        (_set(name="Upper"), "name: String should match"),
        (_set(family="hmm"), "family"),
        (_set(relative_size=0), "relative_size"),
        (_set(relative_size=1.5), "relative_size"),
        (_set(subsampling=0), "subsampling"),
        (_set(left_context=-1), "left_context"),
        (_set(states=[{"input": "a", "output": "b", "shape": [0]}]), "states.0.shape.0"),
        (_set(front_end={"kind": "mfcc"}), "front_end"),
        (_set(front_end={"bins": 40, "colour": "red"}), "front_end"),
        (_set(sample_rate=8000), "8000 Hz"),
        (_set(log_priors=[-1.0]), "1 log_priors"),
        (_set(decoder={"prior_scale": 0.5}), "prior_scale needs log_priors"),
        (_set(quality={"x": {"wer": -1, "cer": 0, "rtf": 0, "utterances": 1, "words": 1}}), "quality.x.wer"),
    ],
)
def test_bad_manifest_names_the_field(spoil: Callable[[dict[str, Any]], None], complaint: str) -> None:
    manifest = tiny_manifest("tiny").model_dump(mode="json")
    spoil(manifest)
    with pytest.raises(ManifestError) as caught:
        parse_manifest(json.dumps(manifest), "here/manifest.json")
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("here/manifest.json")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_text_that_is_no_json_object_is_a_manifest_error(text: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(text)


def test_huge_manifest_is_not_read(tmp_path: Path) -> None:
    ModelPackage.save(tmp_path, tiny_manifest("tiny"), b"graph")
    (tmp_path / "tiny" / MANIFEST_FILE).write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ManifestError, match="larger than"):
        ModelPackage.load(tmp_path / "tiny")


def test_errors_are_deepthin_errors_and_builtins() -> None:
    assert issubclass(PackageMissingError, FileNotFoundError)
    assert issubclass(PackageError, ValueError)
    assert issubclass(PackageError, DeepThinError)


def test_a_network_needs_no_front_end_and_gives_no_text(tmp_path: Path) -> None:
    manifest = tiny_manifest("bare", family="network", front_end=None, units=[])
    package = ModelPackage.save(tmp_path, manifest, b"")
    assert ModelPackage.load(package.path).manifest == manifest
    with pytest.raises(NoTranscriptionError, match="bare"):
        load(package.path)
