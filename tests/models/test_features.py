"""Cepstral features against Kaldi's own definition, and against the folded AMI network."""

from __future__ import annotations

from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import onnxruntime as ort
import pytest

from models.audio import decode
from models.features import FrontEnd, FrontEndError, preset
from models.training import ami
from tests.support import recording


def kaldi_mfcc(samples: np.ndarray) -> np.ndarray:
    options = knf.MfccOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 23
    options.num_ceps = 13
    options.cepstral_lifter = 22.0
    options.use_energy = False
    computer = knf.OnlineMfcc(options)
    computer.accept_waveform(16_000, samples * np.float32(32768))
    computer.input_finished()
    return np.stack([computer.get_frame(index) for index in range(computer.num_frames_ready)])


def test_cepstra_are_kaldis():
    audio = recording(2.0)
    front_end = FrontEnd(bins=23, normalise="none", dynamic_range=0.0, kind="mfcc", cepstra=13, lifter=22.0)
    np.testing.assert_allclose(front_end.extract(audio), kaldi_mfcc(audio.samples), atol=2e-3)


def test_differences_and_splicing_repeat_the_edges():
    audio = recording(1.0)
    x = kaldi_mfcc(audio.samples).astype(np.float64)
    clamp = lambda index: x[np.clip(index, 0, len(x) - 1)]  # noqa: E731
    frames = np.arange(len(x))
    first = sum(k * clamp(frames + k) for k in range(-2, 3)) / 10
    second = sum(i * j * clamp(frames + i + j) for i in range(-2, 3) for j in range(-2, 3)) / 100
    wanted = np.concatenate([x, first, second], axis=1)
    wanted -= wanted.mean(axis=0)
    spliced = np.concatenate([wanted[np.clip(frames + k, 0, len(x) - 1)] for k in range(-4, 5)], axis=1)
    np.testing.assert_allclose(preset("ami-dnn").extract(audio), spliced, atol=5e-3)


@pytest.mark.parametrize("seconds", [0.01, 1.0, 2.003, 3.7])
def test_the_pieces_that_a_recording_is_handed_over_in_do_not_show(seconds: float) -> None:
    audio = recording(seconds)
    front_end = FrontEnd(normalise="none", dynamic_range=0.0)
    fbank = knf.OnlineFbank(front_end._options())
    fbank.accept_waveform(16_000, np.pad(audio.samples, (0, max(0, 400 - len(audio.samples)))) * np.float32(32768))
    fbank.input_finished()
    whole = np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])
    np.testing.assert_array_equal(front_end.extract(audio), whole)


def test_the_ami_network_sees_what_its_folded_form_sees(corpora: Path):
    folded = ami.load(corpora / "ami-dnn")
    session = ort.InferenceSession(str(corpora / "ami-dnn" / "ami-dnn.onnx"), providers=["CPUExecutionProvider"])
    for file in sorted((corpora / "an4-test").rglob("*.flac"))[:3]:
        audio = decode(file.read_bytes())
        (direct,) = session.run(None, {"features": preset("ami-dnn").extract(audio)})
        other = folded.log_posteriors(FrontEnd(bins=23, dynamic_range=0.0).extract(audio))
        # The fold repeats log-mel frames at the edges, not differences; inside both are the same but for the mean.
        assert (direct.argmax(axis=1) == other.argmax(axis=1))[10:-10].mean() > 0.99


@pytest.mark.parametrize("fields", [{"kind": "plp"}, {"kind": "mfcc"}, {"splice": 4}, {"kind": "mfcc", "cepstra": 41}])
def test_impossible_front_ends_are_refused(fields: dict[str, object]):
    with pytest.raises(FrontEndError):
        FrontEnd.from_dict(fields)


def test_a_manifest_of_log_mel_features_keeps_its_fields():
    assert set(FrontEnd().to_dict()) == {"bins", "normalise", "dynamic_range", "sample_rate", "kind"}
    assert FrontEnd.from_dict(preset("ami-dnn").to_dict()) == preset("ami-dnn")
    with pytest.raises(FrontEndError, match="ami-dnn"):
        preset("ami")
