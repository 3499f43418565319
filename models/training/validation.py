"""Held-out figures during training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.decoding.g2p import edit_distance
from models.families.base import AcousticNet
from models.training.batches import BatchSource
from models.training.crf import PhoneModel, crf_loss
from models.training.ctc import ctc_loss


def validate(net: AcousticNet, source: BatchSource, phone_model: PhoneModel | None = None) -> dict[str, float]:
    """Frame accuracy, CTC (with a phone model, CTC-CRF) loss per phone and phone error rate of the greedy path."""
    net.eval()
    device = next(net.parameters()).device
    frames = right = errors = phones = 0
    losses, crf_losses, weights = [], [], []
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for pairs in source.plan(0, 0):
            batch = source.load(pairs, None, rng)
            log_probs = net(batch.features.to(device)).cpu()
            best = log_probs.argmax(-1)
            known = batch.labels >= 0
            frames += int(known.sum())
            right += int((best == batch.labels)[known].sum())
            if batch.phone_lengths.sum():
                losses.append(float(ctc_loss(log_probs, batch)))
                if phone_model is not None:
                    crf_losses.append(float(crf_loss(log_probs, batch, phone_model)))
                weights.append(int(batch.phone_lengths.sum()))
            start = 0
            for row, length in enumerate(batch.phone_lengths.tolist()):
                reference = batch.phones[start : start + length].tolist()
                start += length
                if reference:
                    errors += edit_distance(reference, collapse(best[row, : batch.lengths[row]].tolist()))
                    phones += length
    of_crf = {"held_crf": float(np.average(crf_losses, weights=weights))} if crf_losses else {}
    return {
        "held_frame_accuracy": right / max(frames, 1),
        "held_ctc": float(np.average(losses, weights=weights)) if losses else float("nan"),
        **of_crf,
        "held_phone_error": errors / max(phones, 1),
    }


def collapse(path: Sequence[int]) -> list[int]:
    """A CTC path without repeats and blanks."""
    return [unit for i, unit in enumerate(path) if unit != 0 and (i == 0 or path[i - 1] != unit)]
