"""Scoring a corpus."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from models.errors import CorpusError, EvaluationUnavailableError
from models.evaluation import evaluate, read_corpus
from models.recognisers import Recogniser, load
from models.transcript import Transcript
from tests.support import babble, encode

HEADER = "utterance\tspeaker\tpath\tseconds\ttranscript\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = [("a", 0.5, "ONE TWO THREE"), ("b", 1.0, "FOUR"), ("c", 0.7, "FIVE SIX")]
    for number, (name, seconds, _) in enumerate(rows):
        (folder / f"{name}.wav").write_bytes(encode(babble(seconds, seed=number)))
    lines = [f"{name}\tx\t{name}.wav\t{seconds}\t{text}\n" for name, seconds, text in rows]
    (folder / "manifest.tsv").write_text(HEADER + "".join(lines))
    return folder


@pytest.fixture
def recogniser(home: Path) -> Recogniser:
    return load(home / "models" / "tiny-dense")


class Parrot:
    """Says what it is told, whatever it hears."""

    def __init__(self, recogniser: Recogniser, texts: list[str]) -> None:
        self.manifest = recogniser.manifest
        self.texts = iter(texts)

    def transcribe(self, audios: list[Any], *, decoder: str | None = None) -> list[Transcript]:
        return [Transcript(next(self.texts), (), audio.seconds) for audio in audios]


@pytest.mark.parametrize(
    ("texts", "wer"),
    [
        (["one two three", "four", "five six"], 0.0),
        (["one too three", "four", "five six"], 1 / 6),
        (["one three", "four", "five six"], 1 / 6),
        (["one two three", "four four", "five six"], 1 / 6),
        (["", "", ""], 1.0),
    ],
)
def test_errors_are_counted_without_case(corpus: Path, recogniser: Recogniser, texts: list[str], wer: float) -> None:
    result = evaluate(Parrot(recogniser, texts), corpus)  # type: ignore[arg-type]
    assert result.wer == pytest.approx(wer)
    assert (result.cer == 0) == (wer == 0)
    assert (result.model, result.method) == ("tiny-dense", "dense")
    assert (result.utterances, result.words) == (3, 6)
    assert result.rtf >= 0


def test_real_recogniser_is_run_and_timed(corpus: Path, recogniser: Recogniser) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate(recogniser, corpus, limit=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert (result.utterances, result.words) == (2, 4)
    assert result.wer > 0
    assert result.rtf > 0


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (None, "is not a corpus"),
        ("", "no column utterance, path, transcript"),
        ("utterance\tpath\n", "no column transcript"),
        (HEADER, "no utterances"),
        (HEADER + "a\tx\ta.wav\n", "line 2"),
        (HEADER + "a\tx\t\t1\tWORDS\n", "line 2"),
        (HEADER + "a\tx\tgone.wav\t1\tWORDS\n", "recording a cannot be read"),
        (HEADER + "a\tx\tmanifest.tsv\t1\tWORDS\n", "recording a cannot be read"),
    ],
)
def test_bad_corpus_is_named(tmp_path: Path, recogniser: Recogniser, table: str | None, complaint: str) -> None:
    if table is not None:
        (tmp_path / "manifest.tsv").write_text(table)
    with pytest.raises(CorpusError, match=complaint):
        evaluate(recogniser, tmp_path)


def test_missing_jiwer_is_a_clear_error(corpus: Path, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_jiwer(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jiwer":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_jiwer)
    with pytest.raises(EvaluationUnavailableError, match=r"pip install 'deepthin\[eval\]'"):
        evaluate(recogniser, corpus)


def test_real_corpus_is_read(corpora: Path) -> None:
    utterances = read_corpus(corpora / "an4-test")
    assert len(utterances) == 130
    assert sum(len(utterance.transcript.split()) for utterance in utterances) == 773
    assert utterances[0].path.is_file()
