"""Forced alignment."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.training import alignments
from models.training.alignment import IGNORED, align
from models.training.config import ConfigError


def likelihoods(path, units=6, confidence=5.0):
    values = np.zeros((len(path), units), np.float32)
    values[np.arange(len(path)), path] = confidence
    return values


WORDS = {"AB": [[1, 2]], "C": [[3], [4, 5]], "UNKNOWN": []}


def test_labels_follow_the_evidence():
    path = [0, 0, 1, 2, 2, 0, 3, 3, 0]
    result = align(likelihoods(path), ["AB", "C"], WORDS.__getitem__)
    assert result.labels.tolist() == path
    assert result.phones == (1, 2, 3)
    assert result.score == pytest.approx(0)


def test_the_better_pronunciation_is_chosen_and_silence_is_optional():
    result = align(likelihoods([1, 2, 4, 5]), ["AB", "C"], WORDS.__getitem__)
    assert result.phones == (1, 2, 4, 5)


def test_a_word_without_pronunciation_takes_any_phones():
    path = [1, 2, 0, 5, 4, 3, 0, 3]
    result = align(likelihoods(path), ["AB", "UNKNOWN", "C"], WORDS.__getitem__)
    assert result.phones is None
    assert result.labels[3:6].tolist() == [IGNORED] * 3
    assert result.labels[:3].tolist() == path[:3]


def test_repeated_phones_stay_two():
    result = align(likelihoods([3, 3, 3, 3]), ["C", "C"], WORDS.__getitem__)
    assert result.phones == (3, 3)


def test_too_few_frames_give_no_alignment():
    assert align(likelihoods([1]), ["AB"], WORDS.__getitem__) is None


def test_saved_alignments_come_back(tmp_path):
    first = align(likelihoods([1, 2, 0]), ["AB"], WORDS.__getitem__)
    wild = align(likelihoods([1, 2, 5]), ["AB", "UNKNOWN"], WORDS.__getitem__)
    path = tmp_path / "new" / "a.npz"
    alignments.save(path, ["x", "y", "z"], [first, None, wild])
    examples = alignments.load(path, ["x", "y", "z"])
    assert [e.utterance for e in examples] == [0, 2]
    assert examples[0].phones == (1, 2)
    assert examples[0].labels.tolist() == [1, 2, 0]
    assert examples[1].phones is None
    with pytest.raises(ConfigError, match="other corpora"):
        alignments.load(path, ["x", "y"])
    with pytest.raises(ConfigError, match=r"models\.training\.prepare"):
        alignments.load(tmp_path / "missing.npz", [])
