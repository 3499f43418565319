"""The CTC-CRF loss of a batch (Xiang and Ou, ICASSP 2019): CTC paths weighted by a phone language model, normalised.

CTC gives every path the product of its frames' probabilities. A conditional random field over the same paths weights
them by the probability of the phones as well and normalises over all paths of all phone sequences, so that training
takes probability from what competes with the transcript under the language model instead of from everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.training.batches import Batch
from models.training.ctc import summed_ctc
from ops import training

EDGE = 0
"""The unit that stands for the start and the end of a sequence; CTC's blank has the number, and is never in one."""


@dataclass(frozen=True, slots=True)
class PhoneModel:
    """A trigram model of unit sequences.

    Attributes:
        probabilities: float32 [units, units, units], of unit c after a and b at [a, b, c]; ``EDGE`` is the end as c and
            the start as a or b.
    """

    probabilities: Tensor

    @classmethod
    def estimate(cls, sequences: Iterable[Sequence[int]], units: int) -> PhoneModel:
        """Witten-Bell estimates (IEEE Trans. Information Theory 37(4), 1991), interpolated down to one in `units`."""
        three = np.zeros((units, units, units))
        for sequence in sequences:
            padded = (EDGE, EDGE, *sequence, EDGE)
            for a, b, c in zip(padded, padded[1:], padded[2:], strict=False):
                three[a, b, c] += 1
        lower = np.full(units, 1 / units)
        for counts in (three.sum((0, 1)), three.sum(0), three):
            kinds = np.maximum((counts > 0).sum(-1, keepdims=True), 1)
            lower = (counts + kinds * lower) / (counts.sum(-1, keepdims=True) + kinds)
        return cls(torch.from_numpy(lower.astype(np.float32)))

    def log_probability(self, sequence: Sequence[int]) -> float:
        """Natural log of the probability of one whole sequence."""
        padded = (EDGE, EDGE, *sequence, EDGE)
        chosen = [self.probabilities[a, b, c] for a, b, c in zip(padded, padded[1:], padded[2:], strict=False)]
        return float(torch.stack(chosen).log().sum())


class _Compiled(torch.autograd.Function):
    """Sum of the log weights of all paths; its gradient is every unit's share of them, frame by frame."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, probabilities: Tensor) -> Tensor:
        log_probs, lengths, probabilities = (t.contiguous() for t in (log_probs, lengths, probabilities))
        batch, frames, units = log_probs.shape
        weights = torch.empty(batch, dtype=torch.float64)
        shares = torch.empty_like(log_probs)
        addresses = (t.data_ptr() for t in (lengths, probabilities, weights, shares))
        training.crf_normaliser(log_probs.data_ptr(), (batch, frames, units), *addresses)
        ctx.save_for_backward(shares)
        return weights.sum().float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (shares,) = ctx.saved_tensors
        return shares * gradient, None, None


class _Anywhere(torch.autograd.Function):
    """The same in PyTorch, for other devices and types.

    A state is the last two units (a, b), stored at [b, utterance, a], and whether a blank came after them.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, probabilities: Tensor) -> Tensor:
        emitted = log_probs.exp()
        batch, frames, units = emitted.shape
        table = probabilities.permute(1, 0, 2).clone()  # [b, a, c]
        final = table[:, :, EDGE].clone()[:, None, :]  # [b, 1, a]
        table[:, :, EDGE] = 0
        again = table.diagonal(dim1=0, dim2=2).T[:, None, :]  # [b, 1, a]: of b after a and b

        label = emitted.new_zeros(units, batch, units)
        blank = torch.zeros_like(label)
        blank[EDGE, :, EDGE] = 1
        labels, blanks, scales = [], [], []
        for t in range(frames):
            both = label + blank
            arrived = torch.bmm(both, table)  # [b, utterance, c]
            # After b itself, another b needs a blank between.
            arrived.diagonal(dim1=0, dim2=2).sub_((label * again).sum(-1).T)
            now = emitted[:, t]
            label = (label + arrived.permute(2, 1, 0)) * now.T[:, :, None]
            blank = both * now[:, EDGE][None, :, None]
            scale = label.sum((0, 2)) + blank.sum((0, 2))
            label, blank = label / scale[None, :, None], blank / scale[None, :, None]
            labels.append(label)
            blanks.append(blank)
            scales.append(scale)
        rows, last = torch.arange(batch), (lengths - 1).to(log_probs.device)
        logs = torch.stack(scales, 1).double().log().cumsum(1)[rows, last]
        ends = torch.stack([((labels[n] + blanks[n])[:, i] * final[:, 0]).sum() for i, n in enumerate(last.tolist())])

        shares = torch.zeros_like(emitted)
        after_label, after_blank = torch.zeros_like(label), torch.zeros_like(label)
        for t in reversed(range(frames)):
            if t + 1 < frames:
                coming = emitted[:, t + 1]
                reached = after_label * coming.T[:, :, None]
                wanted = reached.permute(2, 1, 0)  # [b, utterance, c]
                onward = torch.bmm(wanted, table.transpose(1, 2)) + after_blank * coming[:, EDGE][None, :, None]
                repeated = wanted.diagonal(dim1=0, dim2=2).T[:, :, None] * again
                after_label, after_blank = onward + reached - repeated, onward
                scale = (after_label.amax((0, 2)) + after_blank.amax((0, 2))).clamp(min=1e-30)[None, :, None]
                after_label, after_blank = after_label / scale, after_blank / scale
            ended = (last == t)[None, :, None]
            after_label = torch.where(ended, final, after_label)
            after_blank = torch.where(ended, final, after_blank)
            share = (labels[t] * after_label).sum(-1).T
            share[:, EDGE] = (blanks[t] * after_blank).sum((0, 2))
            total = share.sum(1, keepdim=True)
            shares[:, t] = torch.where(total > 0, share / total.clamp(min=1e-30), share)
        ctx.save_for_backward(shares)
        return (logs + ends.double().log()).sum().float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (shares,) = ctx.saved_tensors
        return shares * gradient, None, None


def summed_normaliser(log_probs: Tensor, lengths: Tensor, model: PhoneModel) -> Tensor:
    """The log of the weight of all paths of all unit sequences, summed over the batch.

    On the CPU in float32 the compiled library computes it, where it is installed.

    Args:
        log_probs: [batch, frames, units], the blank first.
        lengths: int64 [batch], frames of each utterance, at least 1.
        model: of the unit sequences.
    """
    compiled = log_probs.device.type == "cpu" and log_probs.dtype == torch.float32 and training.available()
    normaliser = _Compiled if compiled else _Anywhere
    return cast(
        Tensor,
        normaliser.apply(log_probs, lengths, model.probabilities.to(log_probs)),  # type: ignore[no-untyped-call]
    )


def crf_loss(log_probs: Tensor, batch: Batch, model: PhoneModel) -> Tensor:
    """CTC-CRF loss per phone over the utterances whose phones are known and fit into their frames; never below 0."""
    sequences = torch.split(batch.phones, batch.phone_lengths.tolist())
    fits = [
        len(sequence) > 0 and len(sequence) + int((sequence[1:] == sequence[:-1]).sum()) <= int(length)
        for sequence, length in zip(sequences, batch.lengths, strict=True)
    ]
    if not any(fits):
        return log_probs.sum() * 0.0
    kept = torch.tensor(fits)
    chosen = [sequence for sequence, fit in zip(sequences, fits, strict=True) if fit]
    probs, lengths = log_probs[kept.to(log_probs.device)], batch.lengths[kept]
    ctc = summed_ctc(probs, lengths, torch.cat(chosen), batch.phone_lengths[kept])
    of_phones = sum(model.log_probability(sequence.tolist()) for sequence in chosen)
    return (ctc + summed_normaliser(probs, lengths, model) - of_phones) / batch.phone_lengths[kept].sum()
