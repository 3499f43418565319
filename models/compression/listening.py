"""How recordings go into networks made elsewhere: CTC networks, and encoders with decoders."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import onnx
from onnx import TensorProto

from models.audio import Audio
from models.compression.base import Array, CompressionError
from models.compression.feeds import given
from models.compression.joined import HIDDEN
from models.front_ends import extract
from models.package import Manifest, ModelPackage
from models.recognisers.moonshine import MoonshineRecogniser
from models.segments import cut, is_steady, long_enough

_SECONDS: Final = 2.0  # of a random recording
_TOKENS: Final = 12  # of a random text
_LOGITS: Final = "logits"  # of the decoder
WAVEFORM: Final = "input_values"
"""What the encoder reads."""


class AudioInputs(Protocol):
    """What goes into a network for a recording."""

    @property
    def sample_rate(self) -> int:
        """Samples a second of the recordings."""
        ...

    @property
    def logits(self) -> str | None:
        """The output of logits, or log posteriors, that tells what is heard; None: the first output, whatever it is."""
        ...

    def of(self, audio: Audio) -> dict[str, Array] | None:
        """The feed for a recording; None where there is nothing to hear in it."""
        ...

    def seconds(self, feed: dict[str, Array]) -> float:
        """Seconds of audio in a feed."""
        ...


class CtcInputs:
    """Inputs of a network of the family `ctc`."""

    def __init__(self, model: onnx.ModelProto, manifest: Manifest) -> None:
        """
        Raises:
            CompressionError: the network takes something else than audio and its length.
        """
        assert manifest.ctc is not None
        self._settings, self._manifest = manifest.ctc, manifest
        kinds = {value.name: value.type.tensor_type.elem_type for value in given(model)}
        floats = [name for name, kind in kinds.items() if kind == TensorProto.FLOAT]
        self._name = self._settings.audio_input or next(iter(floats), "")
        others = [name for name in kinds if name != self._name]
        if self._name not in kinds or len(others) > 1:
            raise CompressionError(f"the network takes {', '.join(kinds)}: more than audio and its length")
        self._output = self._settings.output or _scores(model)
        self._lengths = {name: np.int32 if kinds[name] == TensorProto.INT32 else np.int64 for name in others}

    @property
    def sample_rate(self) -> int:
        """See `AudioInputs`."""
        return self._manifest.sample_rate

    @property
    def logits(self) -> str | None:
        """See `AudioInputs`."""
        return self._output

    def of(self, audio: Audio) -> dict[str, Array] | None:
        """The feed for the first piece of a recording in which something is said."""
        rate = self.sample_rate
        for first, last in cut(audio.samples, rate, self._settings.longest_seconds):
            samples = audio.samples[first:last]
            if not is_steady(samples, rate):
                return self._feed(samples)
        return None

    def seconds(self, feed: dict[str, Array]) -> float:
        """See `AudioInputs`."""
        values, front_end = feed[self._name], self._settings.front_end
        if front_end.kind == "waveform":
            return float(values.shape[-1]) / self.sample_rate
        frames = values.shape[2 if front_end.layout == "bins-frames" else 1]
        return float(frames) * front_end.frame_shift_ms / 1000

    def random(self, count: int) -> list[dict[str, Array]]:
        """Feeds of noise, which random values are not."""
        return [self._feed(noise) for noise in _noise(count, self.sample_rate)]

    def _feed(self, samples: Array) -> dict[str, Array]:
        values, frames = extract(self._settings.front_end, long_enough(samples, self.sample_rate), self.sample_rate)
        return {self._name: values[None], **{name: np.array([frames], kind) for name, kind in self._lengths.items()}}


class MoonshineInputs:
    """Inputs of encoder and decoder, joined; the decoder reads what the original one wrote for the recording."""

    def __init__(self, package: ModelPackage, model: onnx.ModelProto, threads: int) -> None:
        """`package`: the original; `model`: its networks, joined."""
        assert package.manifest.moonshine is not None
        self._recogniser = MoonshineRecogniser.load(package, threads=threads)
        self._start = package.manifest.moonshine.start
        self._fixed: dict[str, Array] = {}
        for value in given(model):
            if value.name not in (WAVEFORM, "input_ids", HIDDEN):
                shape = [axis.dim_value or 1 for axis in value.type.tensor_type.shape.dim]
                past = value.type.tensor_type.elem_type == TensorProto.FLOAT
                self._fixed[value.name] = np.zeros((0, *shape[1:]), np.float32) if past else np.zeros(shape, np.bool_)
        vocabulary = next(value for value in model.graph.output if value.name == _LOGITS)
        self._vocabulary = vocabulary.type.tensor_type.shape.dim[-1].dim_value or 2

    @property
    def sample_rate(self) -> int:
        """See `AudioInputs`."""
        return self._recogniser.manifest.sample_rate

    @property
    def logits(self) -> str | None:
        """See `AudioInputs`."""
        return _LOGITS

    def of(self, audio: Audio) -> dict[str, Array] | None:
        """The feed for the first piece of a recording in which something is said."""
        for piece in self._recogniser.features(audio):
            [[text]] = self._recogniser.infer([[piece]])
            return self._feed(long_enough(piece, self.sample_rate), text.tokens)
        return None

    def seconds(self, feed: dict[str, Array]) -> float:
        """See `AudioInputs`."""
        return float(feed[WAVEFORM].shape[-1]) / self.sample_rate

    def random(self, count: int) -> list[dict[str, Array]]:
        """Feeds of noise, which random values are not."""
        words = np.random.default_rng(1).integers(0, self._vocabulary, (count, _TOKENS))
        return [self._feed(noise, text) for noise, text in zip(_noise(count, self.sample_rate), words, strict=True)]

    def _feed(self, samples: Array, tokens: Array | tuple[int, ...]) -> dict[str, Array]:
        ids = np.array([[self._start, *tokens]], np.int64)
        return {WAVEFORM: np.ascontiguousarray(samples[None]), "input_ids": ids, **self._fixed}


def _scores(model: onnx.ModelProto) -> str:
    """The first output [batch, frames, tokens]."""
    kinds = {value.name: value.type.tensor_type for value in model.graph.output}
    fitting = (name for name, kind in kinds.items() if kind.elem_type == TensorProto.FLOAT and len(kind.shape.dim) == 3)
    return str(next(fitting, model.graph.output[0].name))


def _noise(count: int, rate: int) -> list[Array]:
    """Noise that comes and goes: what is steady is not given to a network at all."""
    generator = np.random.default_rng(0)
    swell = np.sin(2 * np.pi * 2 * np.arange(int(_SECONDS * rate)) / rate) ** 2
    return [(0.1 * swell * generator.standard_normal(len(swell))).astype(np.float32) for _ in range(count)]
