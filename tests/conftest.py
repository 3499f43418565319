"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.package import ModelPackage
from tests.support import tiny_graph, tiny_manifest


@pytest.fixture(scope="session")
def graphs() -> dict[bool, bytes]:
    """The tiny networks: recurrent or not."""
    return {recurrent: tiny_graph(recurrent=recurrent) for recurrent in (False, True)}


@pytest.fixture
def home(tmp_path: Path, graphs: dict[bool, bytes]) -> Path:
    """A home folder with the models tiny-dense (default), its child tiny-thin, and tiny-recurrent."""
    folder = tmp_path / "home"
    quality = {"cer": 0.1, "rtf": 0.01, "utterances": 10, "words": 100}
    for manifest in (
        tiny_manifest("tiny-dense", quality={"an4-test": {"wer": 0.25, **quality}}),
        tiny_manifest(
            "tiny-thin",
            method="deepthin",
            relative_size=0.02,
            parent="tiny-dense",
            quality={"an4-test": {"wer": 0.27, **quality}},
        ),
        tiny_manifest("tiny-recurrent", recurrent=True),
    ):
        ModelPackage.save(folder / "models", manifest, graphs[bool(manifest.states)])
    (folder / "models" / "default").write_text("tiny-dense\n")
    return folder


@pytest.fixture
def corpora() -> Path:
    """The folder of real corpora, named by DEEPTHIN_DATA."""
    if not (folder := os.environ.get("DEEPTHIN_DATA")):
        pytest.skip("DEEPTHIN_DATA names no folder with corpora")
    return Path(folder)
