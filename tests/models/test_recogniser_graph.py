"""The recogniser with a decoding graph: words, their times, and graphs shared between models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.decoding import DecodeError, GraphDecoder, GraphError
from models.errors import PackageError
from models.package import ModelPackage
from models.recognisers import load
from ops.errors import DeepThinError
from tests.support import (
    SUBSAMPLING,
    UNITS,
    WORDS,
    recording,
    spoken,
    tiny_decoding_graph,
    tiny_manifest,
)

HELLO_WORLD = f"{WORDS['HELLO']} {WORDS['WORLD']}"


@pytest.fixture
def models(tmp_path: Path, graphs: dict[bool, bytes]) -> Path:
    """A folder with the decoding graph `words` and two models that use it."""
    tiny_decoding_graph(tmp_path / "graphs" / "words")
    options = {"lm_weight": 1.0, "beam": 20.0, "max_active": 500, "acoustic_scale": 1.0}
    for name in ("one", "two"):
        ModelPackage.save(tmp_path, tiny_manifest(name, graph="words", decoder=options), graphs[False])
    return tmp_path


def test_words_have_times_and_confidence(models: Path) -> None:
    recogniser = load(models / "one")
    log_probs = spoken(HELLO_WORLD)
    transcript = recogniser.transcript(log_probs, seconds := len(log_probs) * 0.01 * SUBSAMPLING)
    assert transcript.text == "hello world"
    hello, world = transcript.words
    assert (hello.text, world.text) == ("hello", "world")
    assert hello.start == pytest.approx(0.0, abs=0.05)
    # Four phones of three output frames of 30 ms each.
    assert world.start == pytest.approx(0.36, abs=0.05)
    assert hello.end <= world.start < world.end <= seconds
    assert hello.confidence > 0.5
    assert world.confidence > 0.5


def test_decoder_is_chosen_by_call_or_at_load(models: Path) -> None:
    recogniser = load(models / "one")
    log_probs = spoken(HELLO_WORLD)
    assert recogniser.default_decoder == "graph"
    assert recogniser.transcript(log_probs, 1.0, decoder="greedy").text == HELLO_WORLD.lower()
    assert recogniser.transcript(log_probs, 1.0, decoder="graph").text == "hello world"
    greedy = load(models / "one", decoder="greedy")
    assert greedy.transcript(log_probs, 1.0).text == HELLO_WORLD.lower()
    assert greedy.graph_bytes == 0


def test_text_is_made_of_known_words_whatever_is_heard(models: Path) -> None:
    recogniser = load(models / "one")
    for transcript in recogniser.transcribe([recording(seconds, seed) for seed, seconds in enumerate((0.1, 1.0, 2.5))]):
        assert {word.text.upper() for word in transcript.words} <= set(WORDS)


def test_models_share_one_graph_in_memory(models: Path) -> None:
    one, two = load(models / "one"), load(models / "two")
    first, second = one.decoders["graph"], two.decoders["graph"]
    assert isinstance(first, GraphDecoder)
    assert isinstance(second, GraphDecoder)
    assert first.graph is second.graph
    assert one.graph_bytes == (models / "graphs" / "words" / "graph.bin").stat().st_size


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"decoder": {"colour": "red"}}, PackageError),
        ({"decoder": {"beam": -1.0}}, DecodeError),
        ({"units": UNITS[:-1]}, DecodeError),
    ],
)
def test_graph_that_does_not_fit_is_refused(
    models: Path, graphs: dict[bool, bytes], changes: dict[str, Any], error: type[DeepThinError]
) -> None:
    ModelPackage.save(models, tiny_manifest("bad", graph="words", **changes), graphs[False])
    with pytest.raises(error):
        load(models / "bad")


def test_corrupted_graph_is_refused(models: Path) -> None:
    file = models / "graphs" / "words" / "graph.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(GraphError, match="truncated"):
        load(models / "one")
