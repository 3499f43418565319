"""Log-mel and cepstral features, one frame every 10 ms (kaldi-native-fbank)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from models.audio import Audio
from ops.errors import DeepThinError

_WINDOW_SECONDS = 0.025


_DIFFERENCE = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / 10.0
_COMMON = ("bins", "normalise", "dynamic_range", "sample_rate", "kind")


class FrontEndError(DeepThinError, ValueError):
    """A front end that is not known, or audio at a rate it was not made for."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Kaldi-style log-mel filter bank or cepstra: 25 ms Povey window every 10 ms, pre-emphasis .97, no dither.

    Attributes:
        bins: mel filters from 20 Hz to the Nyquist frequency; of kind "fbank" the feature dimension.
        normalise: "mean" subtracts each utterance's mean per value; "none" leaves them as they are.
        dynamic_range: logs further than this (natural log of energy) below the utterance's largest are raised to
            that floor, so that the empty upper bands of a lossy codec do not look unlike anything in training; 0: off.
        sample_rate: samples per second of the audio it takes.
        kind: "fbank", or "mfcc" for Kaldi's cepstra, with C0 in the place of the energy.
        cepstra: cepstral coefficients of kind "mfcc".
        lifter: Kaldi's cepstral lifter of kind "mfcc"; 0: off.
        differences: orders of differences that follow the cepstra (windows of two frames each side, edges repeated).
        splice: frames put beside each frame on both sides, after normalisation; edges repeated. Kind "mfcc" only.
    """

    bins: int = 40
    normalise: str = "mean"
    dynamic_range: float = 16.0
    sample_rate: int = 16_000
    kind: str = "fbank"
    cepstra: int = 0
    lifter: float = 0.0
    differences: int = 0
    splice: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("fbank", "mfcc"):
            raise FrontEndError(f"unknown front end {self.kind!r}: 'fbank' or 'mfcc'")
        if self.normalise not in ("mean", "none"):
            raise FrontEndError(f"unknown normalisation {self.normalise!r}: 'mean' or 'none'")
        if not 1 <= self.bins <= 128:
            raise FrontEndError(f"bins must be between 1 and 128, not {self.bins}")
        if not self.dynamic_range >= 0:
            raise FrontEndError(f"dynamic_range must not be negative, not {self.dynamic_range}")
        if self.kind == "fbank":
            if (self.cepstra, self.lifter, self.differences, self.splice) != (0, 0, 0, 0):
                raise FrontEndError("cepstra, lifter, differences and splice belong to front end 'mfcc'")
            return
        if not 1 <= self.cepstra <= self.bins:
            raise FrontEndError(f"cepstra must be between 1 and the {self.bins} bins, not {self.cepstra}")
        if not 0 <= self.lifter <= 1000:
            raise FrontEndError(f"lifter must be between 0 and 1000, not {self.lifter}")
        if not 0 <= self.differences <= 2 or not 0 <= self.splice <= 50:
            raise FrontEndError("differences must be 0 to 2 and splice 0 to 50")

    @property
    def dim(self) -> int:
        """Values per frame."""
        if self.kind == "fbank":
            return self.bins
        return self.cepstra * (1 + self.differences) * (2 * self.splice + 1)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, those of another kind left out."""
        fields = asdict(self)
        return fields if self.kind == "mfcc" else {name: fields[name] for name in _COMMON}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> FrontEnd:
        """The inverse of `to_dict`; an unknown field is a `FrontEndError`."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise FrontEndError(f"bad front end {fields!r}: {error}") from error

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Features [frames, dim] of one recording; always at least one frame.

        Audio shorter than one window is padded with silence to one window.

        Raises:
            FrontEndError: `audio` has another sample rate.
        """
        if audio.sample_rate != self.sample_rate:
            raise FrontEndError(f"audio at {audio.sample_rate} Hz given to a front end for {self.sample_rate} Hz")
        window = int(_WINDOW_SECONDS * self.sample_rate)
        samples = audio.samples
        if len(samples) < window:
            samples = np.pad(samples, (0, window - len(samples)))
        fbank = knf.OnlineFbank(self._options())
        # Kaldi's filter banks expect 16-bit sample values; the logs of a unit-scaled signal would hit the energy floor.
        samples = samples * np.float32(32768.0)
        # Value by value is how they are taken, and no other thread of Python runs meanwhile: lists are twice as fast
        # as arrays, and between pieces others have their turn.
        for first in range(0, len(samples), self.sample_rate):
            fbank.accept_waveform(self.sample_rate, samples[first : first + self.sample_rate].tolist())
        fbank.input_finished()
        frames = np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)]).astype(np.float32)
        if self.dynamic_range:
            np.maximum(frames, frames.max() - np.float32(self.dynamic_range), out=frames)
        if self.kind == "mfcc":
            frames = self._cepstra(frames)
        if self.normalise == "mean":
            frames -= frames.mean(axis=0, keepdims=True)
        if self.splice:
            frames = _neighbours(frames, self.splice).transpose(0, 2, 1).reshape(len(frames), -1)
        return np.ascontiguousarray(frames)

    def _cepstra(self, log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        order = np.arange(self.cepstra)[:, None]
        dct = np.sqrt(2.0 / self.bins) * np.cos(np.pi / self.bins * (np.arange(self.bins) + 0.5) * order)
        dct[0] = np.sqrt(1.0 / self.bins)
        if self.lifter:
            dct *= 1.0 + 0.5 * self.lifter * np.sin(np.pi * order / self.lifter)
        cepstra = log_mel @ dct.T
        parts, kernel = [cepstra], np.ones(1)
        for _ in range(self.differences):
            # Kaldi applies the second differences as one window of nine frames, so that the edges are repeated once.
            kernel = np.convolve(kernel, _DIFFERENCE)
            parts.append(_neighbours(cepstra, len(kernel) // 2) @ kernel)
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _options(self) -> knf.FbankOptions:
        options = knf.FbankOptions()
        options.frame_opts.samp_freq = self.sample_rate
        options.frame_opts.dither = 0.0
        options.frame_opts.snip_edges = True
        options.mel_opts.num_bins = self.bins
        options.mel_opts.low_freq = 20.0
        options.mel_opts.high_freq = 0.0
        options.energy_floor = 1.0
        options.use_energy = False
        return options


PRESETS: Final[Mapping[str, FrontEnd]] = MappingProxyType(
    {
        "ami-dnn": FrontEnd(bins=23, dynamic_range=0.0, kind="mfcc", cepstra=13, lifter=22.0, differences=2, splice=4),
    }
)
"""Front ends of well-known checkpoints by name."""


def preset(name: str) -> FrontEnd:
    """The front end called `name`.

    Raises:
        FrontEndError: there is none of that name.
    """
    if name not in PRESETS:
        raise FrontEndError(f"there is no front end {name!r}: use {', '.join(PRESETS)}, or its fields")
    return PRESETS[name]


def _neighbours(frames: npt.NDArray[Any], reach: int) -> npt.NDArray[Any]:
    """[frames, dim, 2 * reach + 1]: each frame with its neighbours, edges repeated."""
    padded = np.pad(frames, ((reach, reach), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
