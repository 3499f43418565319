"""What exported CTC networks take: a waveform, or log-mel features with every option spelled out."""

from __future__ import annotations

from typing import Any, Final

import kaldi_native_fbank as knf
import numpy as np
import numpy.typing as npt

from models.family_settings import LogMel, Waveform

FloatArray = npt.NDArray[np.float32]

# As wav2vec 2.0 has it, and NeMo (there as 1e-5 on the deviation): keeps silence from being divided by nothing.
_EPSILON: Final = 1e-7
_DEVIATION_EPSILON: Final = 1e-5


def extract(front_end: Waveform | LogMel, samples: FloatArray, sample_rate: int) -> tuple[FloatArray, int]:
    """What a network with `front_end` takes for `samples` [samples], and how many frames (samples) that is.

    The array is [samples] for a waveform, [frames, bins] or [bins, frames] for log-mel.
    """
    if isinstance(front_end, Waveform):
        scaled = samples * np.float32(front_end.scale)
        if front_end.normalise == "utterance":
            scaled = (scaled - scaled.mean()) / np.sqrt(scaled.var() + np.float32(_EPSILON))
        return np.ascontiguousarray(scaled, np.float32), len(scaled)
    frames = _normalised(front_end, _log_mel(front_end, samples, sample_rate))
    laid_out = frames.T if front_end.layout == "bins-frames" else frames
    return np.ascontiguousarray(laid_out, np.float32), len(frames)


def _log_mel(front_end: LogMel, samples: FloatArray, sample_rate: int) -> FloatArray:
    least = int(np.ceil(front_end.frame_length_ms * sample_rate / 1000)) + 1
    padded = np.pad(samples, (0, max(0, least - len(samples))))
    fbank = knf.OnlineFbank(_options(front_end, sample_rate))
    fbank.accept_waveform(sample_rate, padded * np.float32(front_end.scale))
    fbank.input_finished()
    return np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)]).astype(np.float32)


def _normalised(front_end: LogMel, frames: FloatArray) -> FloatArray:
    if front_end.normalise == "global":
        mean = np.asarray(front_end.mean, np.float32)
        scaled: FloatArray = (frames - mean) * np.asarray(front_end.inverse_deviation, np.float32)
        return scaled
    if front_end.normalise == "none":
        return frames
    frames = frames - frames.mean(axis=0)
    if front_end.normalise == "mean-variance":
        # One less than the count, as torch's deviation has it.
        deviation = np.sqrt((frames**2).sum(axis=0) / max(1, len(frames) - 1))
        frames = np.asarray(frames / (deviation + _DEVIATION_EPSILON), np.float32)
    return frames


def _options(front_end: LogMel, sample_rate: int) -> Any:
    options = knf.FbankOptions()
    windows, mel = options.frame_opts, options.mel_opts
    windows.samp_freq = sample_rate
    windows.dither = 0.0
    windows.frame_length_ms = front_end.frame_length_ms
    windows.frame_shift_ms = front_end.frame_shift_ms
    windows.preemph_coeff = front_end.preemphasis
    windows.remove_dc_offset = front_end.remove_dc_offset
    windows.window_type = front_end.window
    windows.round_to_power_of_two = front_end.round_to_power_of_two
    windows.snip_edges = front_end.snip_edges
    mel.num_bins = front_end.bins
    mel.low_freq = front_end.low_freq
    mel.high_freq = front_end.high_freq
    mel.is_librosa = front_end.mel == "slaney"
    options.use_power = front_end.power
    options.use_energy = False
    return options
