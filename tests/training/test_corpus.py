"""The variants of the recordings that a network is trained on."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.audio import Audio
from models.evaluation import Utterance
from models.features import FrontEnd
from models.training.config import DataTable
from models.training.corpus import Variant, feature_cache, through_mp3

CLIP = Path(__file__).parents[2] / "service" / "demo" / "clip.ogg"


def tones(seconds=2.0, rate=16_000):
    t = np.arange(int(seconds * rate)) / rate
    samples = 0.2 * np.sin(2 * np.pi * 500 * t) + 0.02 * np.random.default_rng(0).standard_normal(len(t))
    return Audio(samples.astype(np.float32), rate)


def share_above(audio, hertz):
    power = np.abs(np.fft.rfft(audio.samples)) ** 2
    frequencies = np.fft.rfftfreq(len(audio.samples), 1 / audio.sample_rate)
    return power[frequencies > hertz].sum() / power[frequencies < hertz].sum()


def test_mp3_keeps_the_length_and_the_tone_and_takes_the_upper_bands():
    audio = tones()
    coded = through_mp3(audio, 16)
    assert coded.sample_rate == audio.sample_rate
    assert len(coded.samples) == pytest.approx(len(audio.samples), abs=1200)
    assert share_above(coded, 6000) < 0.2 * share_above(audio, 6000)
    aligned = [np.dot(coded.samples[:20_000], audio.samples[lag : lag + 20_000]) for lag in range(40)]
    assert max(aligned) > 0.9 * np.dot(audio.samples[:20_000], audio.samples[:20_000])


def test_variants_are_speeds_then_rates():
    table = DataTable(speeds=(1.0, 0.9), mp3_kbits=(24,))
    assert table.variants() == (Variant(1.0), Variant(0.9), Variant(1.0, 24))


def test_the_cache_holds_every_variant_and_computes_each_once(tmp_path, monkeypatch):
    front_end = FrontEnd(23)
    utterances = [Utterance("clip", CLIP, "")]
    variants = [Variant(), Variant(0.9), Variant(1.0, 24)]
    cache = feature_cache(utterances, front_end, variants, tmp_path, processes=1)
    plain, slow, coded = (cache.get(0, index).astype(np.float32) for index in range(3))
    assert len(slow) == pytest.approx(len(plain) / 0.9, rel=0.02)
    assert len(coded) == pytest.approx(len(plain), abs=4)
    assert 0.01 < np.abs(coded[:300] - plain[:300]).mean() < 2
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = feature_cache(utterances, front_end, tuple(reversed(variants)), tmp_path, processes=1)
    assert np.array_equal(again.get(0, 0), coded.astype(np.float16))
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
