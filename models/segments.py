"""Where a long recording can be cut, and whether anything is said in it: by its loudness over time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

# Sixteen steps of 16-bit audio from lowest to highest: dither, which normalisation would blow up to speech level.
SILENT_RANGE: Final = 5e-4

FloatArray = npt.NDArray[np.float32]

_HOP_SECONDS: Final = 0.01
# A pause between words lasts this long; within one, closures are shorter.
_PAUSE_SECONDS: Final = 0.25
# Spread (5th to 95th percentile, natural log of energy) of the loudness of 10 ms: of white noise .4, of tones less,
# of speech 4 and more, still 2 under noise as loud as a third of its own amplitude.
_STEADY_SPREAD: Final = 1.0
_FLOOR: Final = 1e-10
_LEAST_SECONDS: Final = 0.25


def is_silent(samples: FloatArray) -> bool:
    """Whether `samples` [samples] hold nothing louder than dither."""
    return not len(samples) or float(np.ptp(samples)) < SILENT_RANGE


def is_steady(samples: FloatArray, sample_rate: int) -> bool:
    """Whether `samples` [samples] hold nothing but silence, a hum, a tone or a steady noise."""
    if is_silent(samples):
        return True
    low, high = np.percentile(_loudness(samples, sample_rate), (5, 95))
    return bool(high - low < _STEADY_SPREAD)


def long_enough(samples: FloatArray, sample_rate: int) -> FloatArray:
    """`samples` [samples], continued with silence to what the strided convolutions of a network need at least."""
    missing = int(_LEAST_SECONDS * sample_rate) - len(samples)
    return samples if missing <= 0 else np.pad(samples, (0, missing))


def cut(samples: FloatArray, sample_rate: int, longest_seconds: float) -> list[tuple[int, int]]:
    """Ranges of samples of at most `longest_seconds`, which join up to all of `samples` [samples].

    Each cut is in the middle of the quietest quarter of a second in the second half of what one piece could hold: the
    longer the pieces, the more the network knows of a word's neighbours.
    """
    hop = int(_HOP_SECONDS * sample_rate)
    most = int(longest_seconds * sample_rate)
    if len(samples) <= most:
        return [(0, len(samples))]
    # A blend of energies, not of their logs: one loud moment makes a stretch loud.
    width = round(_PAUSE_SECONDS / _HOP_SECONDS)
    smooth = np.convolve(np.exp(_loudness(samples, sample_rate)), np.ones(width) / width, mode="same")
    ranges, start = [], 0
    while len(samples) - start > most:
        first, last = (start + most // 2) // hop, (start + most) // hop
        middle = hop * (first + int(np.argmin(smooth[first:last])))
        ranges.append((start, middle))
        start = middle
    return [*ranges, (start, len(samples))]


def _loudness(samples: FloatArray, sample_rate: int) -> npt.NDArray[np.float64]:
    hop = max(1, int(_HOP_SECONDS * sample_rate))
    whole = len(samples) // hop
    if not whole:
        return np.zeros(1)
    frames = samples[: whole * hop].reshape(whole, hop).astype(np.float64)
    energies: npt.NDArray[np.float64] = np.var(frames, axis=1)
    return np.log(energies + _FLOOR)
