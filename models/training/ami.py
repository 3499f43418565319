"""Idiap's AMI acoustic model (bob.kaldi, BSD) re-expressed on plain log-mel features.

The network takes 13 MFCC with first and second differences, spliced over nine frames and scaled. Every step from the 23
log-mel values to the first layer is linear, so all of them fold into that layer's weight: 17 frames of log-mel in, the
same 1024 units out. Per-utterance mean subtraction commutes with the fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BINS = 23
CONTEXT = 8  # frames each side: four of splicing, four of second differences
_CEPSTRA = 13
_SPLICE = 4
_LIFTER = 22.0


@dataclass(frozen=True, slots=True)
class AmiNetwork:
    """The folded network.

    Attributes:
        weights: five matrices [inputs, outputs]; the first takes (2 * CONTEXT + 1) * BINS values, frame-major.
        biases: five vectors.
        phones: the 43 classes in output order.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    phones: tuple[str, ...]

    def log_posteriors(self, features: npt.NDArray[np.float32], stride: int = 1) -> npt.NDArray[np.float32]:
        """Log posteriors [frames, 43] of mean-normalised log-mel features [frames, 23]; edges are repeated.

        With a `stride`, only every so many frames are computed.
        """
        padded = np.pad(features, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
        spliced = np.lib.stride_tricks.sliding_window_view(padded, 2 * CONTEXT + 1, axis=0)[::stride]
        hidden: npt.NDArray[np.floating[Any]] = np.ascontiguousarray(spliced.transpose(0, 2, 1))
        hidden = hidden.reshape(len(spliced), -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = 0.5 + 0.5 * np.tanh(0.5 * (hidden @ weight.astype(np.float32) + bias.astype(np.float32)))
        logits = hidden @ self.weights[-1].astype(np.float32) + self.biases[-1].astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        result: npt.NDArray[np.float32] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return result


def load(folder: Path) -> AmiNetwork:
    """Read `ami-dnn.onnx` and `phones.txt` from `folder` and fold the front end into the first layer."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(folder / "ami-dnn.onnx"))
    tensors = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in model.graph.initializer}
    names = sorted({name.split(".")[0] for name in tensors if name.startswith("layer")}, key=lambda n: int(n[5:]))
    weights = [tensors[f"{name}.weight"] for name in names]
    biases = [tensors[f"{name}.bias"] for name in names]
    scaled = tensors["scale"][:, None] * weights[0]
    weights[0] = _front_end().T @ scaled
    biases[0] = biases[0] + tensors["shift"] @ scaled
    phones = tuple((folder / "phones.txt").read_text().split())
    return AmiNetwork(tuple(weights), tuple(biases), phones)


def _front_end() -> Array:
    """The matrix [351, 17 * 23] from log-mel frames to spliced MFCC with differences (Kaldi's definitions)."""
    order = np.arange(_CEPSTRA)[:, None]
    dct = np.sqrt(2.0 / BINS) * np.cos(np.pi / BINS * (np.arange(BINS) + 0.5) * order)
    dct[0] = np.sqrt(1.0 / BINS)
    dct *= 1.0 + 0.5 * _LIFTER * np.sin(np.pi * order / _LIFTER)
    first = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / 10.0
    kernels = (np.ones(1), first, np.convolve(first, first))
    rows = np.zeros((2 * _SPLICE + 1, len(kernels), _CEPSTRA, 2 * CONTEXT + 1, BINS))
    for frame in range(2 * _SPLICE + 1):
        for difference, kernel in enumerate(kernels):
            reach = len(kernel) // 2
            for tap, value in enumerate(kernel):
                rows[frame, difference, :, frame + CONTEXT - _SPLICE - reach + tap] += value * dct
    return rows.reshape((2 * _SPLICE + 1) * len(kernels) * _CEPSTRA, -1)
