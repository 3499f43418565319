"""The family ctc: any exported network, described by its manifest alone."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.audio import SAMPLE_RATE, Audio, decode
from models.catalogue import add
from models.compression import checkpoint
from models.compression.checkpoint import CheckpointError
from models.errors import GraphMismatchError, ManifestError, PackageError
from models.family_settings import CtcSettings, LogMel, Waveform
from models.features import FrontEnd, FrontEndError
from models.front_ends import extract
from models.recognisers import Recogniser, load
from models.vocabulary import Piece, Vocabulary
from service.demo.recordings import own_clip
from tests.models import ctc
from tests.models.ctc import HOP, TOKENS, saying
from tests.support import UNITS, recording, tiny_graph

BLANK = "<blank>"
HELLO = (BLANK, "▁HE", BLANK, "LLO", "LLO", BLANK, "▁", "WORLD", BLANK)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path / "home"))


def added(tmp_path: Path, graph: bytes | None = None, **settings: Any) -> Recogniser:
    return load(add(ctc.save(tmp_path / "source", "tiny", graph, **settings), replace=True).path)


def test_tokens_become_words_with_times(tmp_path: Path) -> None:
    [transcript] = added(tmp_path).transcribe([saying(*HELLO)])
    assert transcript.text == "hello world"
    first, second = transcript.words
    step = 20 * HOP / SAMPLE_RATE
    assert (first.start, first.end) == pytest.approx((step, 5 * step), abs=1e-3)
    assert (second.start, second.end) == pytest.approx((7 * step, 8 * step), abs=1e-3)
    assert all(0.9 < word.confidence <= 1 for word in transcript.words)


def test_repeats_need_a_blank_between(tmp_path: Path) -> None:
    recogniser = added(tmp_path)
    assert recogniser.transcribe([saying(BLANK, "LLO", "LLO")])[0].text == "llo"
    assert recogniser.transcribe([saying(BLANK, "LLO", BLANK, "LLO")])[0].text == "llollo"


@pytest.mark.parametrize("lengths", [True, False])
def test_inputs_are_found_by_their_kind(tmp_path: Path, lengths: bool) -> None:
    assert added(tmp_path, ctc.network(lengths=lengths)).transcribe([saying(*HELLO)])[0].text == "hello world"
    names = {"audio_input": "speech", "output": "logits"} | ({"lengths_input": "speech_lengths"} if lengths else {})
    recogniser = added(tmp_path, ctc.network(lengths=lengths), **names)
    assert recogniser.transcribe([saying(*HELLO)])[0].text == "hello world"
    for wrong in names:
        with pytest.raises(GraphMismatchError, match="elsewhere"):
            added(tmp_path, ctc.network(lengths=lengths), **{**names, wrong: "elsewhere"})


def test_a_separator_ends_words(tmp_path: Path) -> None:
    recogniser = added(tmp_path, separator="|", word_start="", silent=["▁"])
    said = saying(BLANK, "LLO", "|", "WORLD", "|", "▁", "LLO")
    assert recogniser.transcribe([said])[0].text == "llo world llo"


def test_long_recordings_keep_their_times(tmp_path: Path) -> None:
    # The pause in the middle is the quietest place, so that the cut falls there.
    recogniser = added(tmp_path, longest_seconds=2)
    pause = Audio(np.zeros(50 * HOP, np.float32)).samples
    said = saying(*HELLO).samples
    audio = Audio(np.concatenate([said, pause, said]))
    assert audio.seconds > 4
    [transcript] = recogniser.transcribe([audio])
    heard = [word for word in transcript.words if word.text == "world"]
    assert len(heard) == 2
    assert heard[1].start - heard[0].start == pytest.approx((len(said) + len(pause)) / SAMPLE_RATE, abs=0.05)


def test_silence_is_empty(tmp_path: Path) -> None:
    recogniser = added(tmp_path)
    for samples in (np.zeros(0), np.zeros(3 * SAMPLE_RATE), 0.1 * np.random.default_rng(0).standard_normal(48_000)):
        [transcript] = recogniser.transcribe([Audio(samples.astype(np.float32))])
        assert (transcript.text, transcript.words) == ("", ())
    with pytest.raises(FrontEndError):
        recogniser.transcribe([Audio(saying(*HELLO).samples, 8000)])


def test_log_mel_is_that_of_our_own_front_end(tmp_path: Path) -> None:
    audio = recording(1.3)
    ours = FrontEnd(dynamic_range=0.0).extract(audio)
    values, frames = extract(LogMel(bins=40, normalise="mean"), audio.samples, SAMPLE_RATE)
    assert frames == len(ours)
    # Ours floors the energies at 1 of 16-bit squared; nothing of this recording is so quiet.
    np.testing.assert_allclose(values, ours, atol=1e-3)
    (tmp_path / "tokens").mkdir()
    folder = ctc.save(
        tmp_path / "source", "mel", tiny_graph(recurrent=False), front_end={"kind": "log-mel", "bins": 40}, blank=0
    )
    (folder / "tokens.txt").write_text("\n".join(UNITS), encoding="utf-8")
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**fields, "subsampling": 3}))
    [transcript] = load(add(folder).path).transcribe([audio])
    assert transcript.words
    starts = [word.start / 0.03 for word in transcript.words]
    np.testing.assert_allclose(starts, np.round(starts), atol=0.05)


@pytest.mark.parametrize("layout", ["frames-bins", "bins-frames"])
def test_normalisations(layout: str) -> None:
    samples = recording(1.0).samples
    fields = {"kind": "log-mel", "bins": 20, "layout": layout, "window": "hann", "mel": "slaney", "scale": 1.0}
    axis = 0 if layout == "frames-bins" else 1
    plain, frames = extract(LogMel.model_validate(fields), samples, SAMPLE_RATE)
    assert plain.shape == ((frames, 20) if axis == 0 else (20, frames))
    scaled, _ = extract(LogMel.model_validate(fields | {"normalise": "mean-variance"}), samples, SAMPLE_RATE)
    np.testing.assert_allclose(scaled.mean(axis=axis), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=axis, ddof=1), 1, atol=1e-3)
    statistics = {"normalise": "global", "mean": [1.0] * 20, "inverse_deviation": [0.5] * 20}
    shifted, _ = extract(LogMel.model_validate(fields | statistics), samples, SAMPLE_RATE)
    np.testing.assert_allclose(shifted, (plain - 1) / 2, atol=1e-5)
    wave, count = extract(Waveform(scale=3.0, normalise="utterance"), samples, SAMPLE_RATE)
    assert count == len(samples)
    assert (float(wave.mean()), float(wave.std())) == pytest.approx((0, 1), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "name", "tokens"),
    [
        ("<blk> 0\n▁a 1\n  2\n", "tokens.txt", ["<blk>", "▁a", " "]),
        ("b 1\na 0\n", "tokens.txt", ["a", "b"]),
        ("a\nb\n1\n", "tokens.txt", ["a", "b", "1"]),
        ('{"b": 1, "a": 0}', "vocab.json", ["a", "b"]),
        ('["a", "b"]', "vocab.json", ["a", "b"]),
    ],
)
def test_vocabularies_are_read(tmp_path: Path, text: str, name: str, tokens: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    settings = CtcSettings(front_end=Waveform(), blank=-1)
    vocabulary = Vocabulary.load(tmp_path / name, settings)
    assert list(vocabulary.tokens) == tokens
    assert vocabulary.blank == len(tokens) - 1


def test_case_is_kept_where_it_says_something() -> None:
    settings = CtcSettings(front_end=Waveform(), blank=0)
    pieces = [Piece(1, 0, 0, 0.0), Piece(2, 1, 1, 0.0)]
    assert Vocabulary(["_", "I", "O"], settings).words(pieces)[0][0] == "io"
    assert Vocabulary(["_", "I", "o"], settings).words(pieces)[0][0] == "Io"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"front_end": {"kind": "cepstra"}}, r"ctc\.front_end"),
        ({"front_end": {"kind": "log-mel", "normalise": "global"}}, "80 values"),
        ({"blank": "<nothing>"}, "<nothing>"),
        ({"blank": 17}, "token 17"),
        ({"tokens": "../tokens.txt"}, r"ctc\.tokens"),
        ({"tokens": "gone.txt"}, r"gone\.txt"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PackageError, match=complaint):
        added(tmp_path, **settings)


def test_another_number_of_tokens_is_not_added(tmp_path: Path) -> None:
    with pytest.raises(GraphMismatchError, match=rf"not \[frames, {len(TOKENS)}\]"):
        added(tmp_path, ctc.network(tokens=4))
    with pytest.raises(ManifestError, match="'ctc' belongs to the family"):
        folder = ctc.save(tmp_path / "source", "tiny")
        fields = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**fields, "family": "network"}))
        add(folder)


def test_a_network_that_others_made() -> None:
    """Phones by hama 1.3.13 (Apache-2.0, PyPI); docs/pretrained.md says how its package is made."""
    if not (folder := os.environ.get("DEEPTHIN_HAMA")):
        pytest.skip("DEEPTHIN_HAMA names no package of hama's network")
    clip = decode(own_clip().data)
    [transcript] = load(folder).transcribe([clip])
    assert transcript.text.split()[:4] == ["ði", "oʊld", "mæn", "sæt"]
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] <= clip.seconds


def test_a_package_is_not_compressed_without_its_tokens(tmp_path: Path) -> None:
    package = add(ctc.save(tmp_path / "source", "tiny"))
    with zipfile.ZipFile(tmp_path / "checkpoint.zip", "w") as archive:
        for name in ("manifest.json", *package.manifest.networks):
            archive.write(package.path / name, f"tiny/{name}")
    with pytest.raises(CheckpointError, match="the package of family 'ctc' has no tokens"):
        checkpoint.read(tmp_path)
