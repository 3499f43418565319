"""The CTC loss of a batch (Graves et al., ICML 2006)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.training.batches import Batch
from ops import training


class _Ctc(torch.autograd.Function):
    """The summed loss, whose gradient costs little more than itself and is computed along with it."""

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, phones: Tensor, phone_lengths: Tensor) -> Tensor:
        log_probs, phones = log_probs.contiguous(), phones.contiguous()
        lengths, phone_lengths = lengths.contiguous(), phone_lengths.contiguous()
        batch, frames, units = log_probs.shape
        losses = torch.empty(batch, dtype=torch.float64)
        gradient = torch.empty_like(log_probs)
        addresses = (t.data_ptr() for t in (lengths, phones, phone_lengths, losses, gradient))
        training.ctc(log_probs.data_ptr(), (batch, frames, units), *addresses)
        ctx.save_for_backward(gradient)
        return losses.sum().float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (of_log_probs,) = ctx.saved_tensors
        return of_log_probs * gradient, None, None, None


def summed_ctc(log_probs: Tensor, lengths: Tensor, phones: Tensor, phone_lengths: Tensor) -> Tensor:
    """The sum of the losses; 0 for a sequence that its frames cannot hold.

    On the CPU in float32 the compiled library computes it, where it is installed; PyTorch does otherwise.

    Args:
        log_probs: [batch, frames, units], the blank first.
        lengths: int64 [batch], frames of each utterance.
        phones: int64, the unit sequences one after the other.
        phone_lengths: int64 [batch]
    """
    if log_probs.device.type == "cpu" and log_probs.dtype == torch.float32 and training.available():
        return cast(Tensor, _Ctc.apply(log_probs, lengths, phones, phone_lengths))  # type: ignore[no-untyped-call]
    moved = phones.to(log_probs.device)
    return nn.functional.ctc_loss(
        log_probs.transpose(0, 1), moved, lengths, phone_lengths, reduction="sum", zero_infinity=True
    )


def ctc_loss(log_probs: Tensor, batch: Batch) -> Tensor:
    """CTC loss per phone over the utterances whose phones are known."""
    known = batch.phone_lengths > 0
    if not bool(known.any()):
        return log_probs.sum() * 0.0
    lengths, phone_lengths = batch.lengths[known], batch.phone_lengths[known]
    loss = summed_ctc(log_probs[known.to(log_probs.device)], lengths, batch.phones, phone_lengths)
    return loss / phone_lengths.sum().clamp(min=1)
