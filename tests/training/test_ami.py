"""The third-party network folded onto log-mel features equals the original on its own features."""

import kaldi_native_fbank as knf
import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.audio import decode
from models.features import FrontEnd
from models.training import ami
from models.training.config import ConfigError
from models.training.network import build, start_from_ami
from tests.training.support import config


def original_features(samples):
    options = knf.MfccOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = 16_000
    options.use_energy = False
    options.num_ceps = 13
    options.mel_opts.num_bins = 23
    options.energy_floor = 1.0
    mfcc = knf.OnlineMfcc(options)
    mfcc.accept_waveform(16_000, samples * 32768.0)
    mfcc.input_finished()
    static = np.stack([mfcc.get_frame(i) for i in range(mfcc.num_frames_ready)])

    def difference(x):
        padded = np.pad(x, ((2, 2), (0, 0)), mode="edge")
        return sum(k * padded[2 + k : 2 + k + len(x)] for k in range(-2, 3)) / 10

    first = difference(static)
    features = np.concatenate([static, first, difference(first)], axis=1)
    features -= features.mean(axis=0)
    padded = np.pad(features, ((4, 4), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + len(features)] for i in range(9)], axis=1).astype(np.float32)


def test_the_folded_network_is_the_original(corpora):
    net = ami.load(corpora / "ami-dnn")
    audio = decode(sorted((corpora / "librispeech-dev").glob("1462/*.mp3"))[0].read_bytes())
    original = onnxruntime.InferenceSession(corpora / "ami-dnn" / "ami-dnn.onnx")
    expected = original.run(None, {"features": original_features(audio.samples)})[0]
    folded = net.log_posteriors(FrontEnd(23, dynamic_range=0).extract(audio))
    # Differences have a mean of their own, which the original subtracts too: it is tiny in a long recording.
    inner = slice(8, -8)
    np.testing.assert_allclose(np.exp(folded[inner]), np.exp(expected[inner]), atol=0.02)
    assert (folded.argmax(1) == expected.argmax(1)).mean() > 0.97
    np.testing.assert_allclose(net.log_posteriors(FrontEnd(23).extract(audio), stride=3).shape[0], -(-len(folded) // 3))


def test_a_network_of_other_dimensions_is_refused(corpora):
    with pytest.raises(ConfigError, match="start_ami"):
        start_from_ami(build(config("tfkaldi")), ami.load(corpora / "ami-dnn"))
