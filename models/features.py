"""Log-mel features, one frame every 10 ms (kaldi-native-fbank)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from models.audio import Audio
from ops.errors import DeepThinError

FRAME_SECONDS = 0.01
_WINDOW_SECONDS = 0.025


class FrontEndError(DeepThinError, ValueError):
    """A front end that is not known, or audio at a rate it was not made for."""


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Kaldi-style log-mel filter bank: 25 ms Povey window every 10 ms, pre-emphasis .97, no dither.

    Attributes:
        bins: mel filters from 20 Hz to the Nyquist frequency, the feature dimension.
        normalise: "mean" subtracts each utterance's mean per bin; "none" leaves the logs as they are.
        dynamic_range: values further than this (natural log of energy) below the utterance's largest are raised to
            that floor, so that the empty upper bands of a lossy codec do not look unlike anything in training; 0: off.
        sample_rate: samples per second of the audio it takes.
        kind: always "fbank"; kept in manifests so that other front ends can be told apart.
    """

    bins: int = 40
    normalise: str = "mean"
    dynamic_range: float = 16.0
    sample_rate: int = 16_000
    kind: str = "fbank"

    def __post_init__(self) -> None:
        if self.kind != "fbank":
            raise FrontEndError(f"unknown front end {self.kind!r}: only 'fbank' is known")
        if self.normalise not in ("mean", "none"):
            raise FrontEndError(f"unknown normalisation {self.normalise!r}: 'mean' or 'none'")
        if not 1 <= self.bins <= 128:
            raise FrontEndError(f"bins must be between 1 and 128, not {self.bins}")
        if not self.dynamic_range >= 0:
            raise FrontEndError(f"dynamic_range must not be negative, not {self.dynamic_range}")

    @property
    def dim(self) -> int:
        """Values per frame."""
        return self.bins

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> FrontEnd:
        """The inverse of `to_dict`; an unknown field is a `FrontEndError`."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise FrontEndError(f"bad front end {fields!r}: {error}") from error

    def extract(self, audio: Audio) -> npt.NDArray[np.float32]:
        """Features [frames, bins] of one recording; always at least one frame.

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
        fbank.accept_waveform(self.sample_rate, samples * np.float32(32768.0))
        fbank.input_finished()
        frames = np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)]).astype(np.float32)
        if self.dynamic_range:
            np.maximum(frames, frames.max() - np.float32(self.dynamic_range), out=frames)
        if self.normalise == "mean":
            frames -= frames.mean(axis=0, keepdims=True)
        return frames

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
