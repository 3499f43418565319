"""Batches of padded, augmented utterances. Everything random follows from (seed, epoch): a resumed run is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.families.base import AcousticNet
from models.training.config import AugmentTable
from models.training.corpus import FeatureCache


@dataclass(frozen=True, slots=True)
class Example:
    """What is known of one training utterance.

    Attributes:
        utterance: its index in the feature cache.
        phones: unit numbers of its transcript, or None when unknown (then only frame targets are used).
        labels: int16 unit per output frame at speed 1 (-1: unknown).
    """

    utterance: int
    phones: tuple[int, ...] | None
    labels: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch.

    Attributes:
        features: float32 [batch, left + frames + right, bins].
        lengths: output frames of each utterance.
        phones: the unit sequences, one after the other.
        phone_lengths: length of each; 0 where unknown.
        labels: int64 [batch, out_frames], -1 where there is no target.
        soft: float32 [batch, out_frames, units] log posteriors of the parent, or None.
    """

    features: Tensor
    lengths: Tensor
    phones: Tensor
    phone_lengths: Tensor
    labels: Tensor
    soft: Tensor | None


class BatchSource:
    """Yields the batches of any epoch."""

    def __init__(
        self,
        cache: FeatureCache,
        speeds: Sequence[float],
        examples: Sequence[Example],
        net: AcousticNet,
        batch_frames: int,
        soft: FeatureCache | None = None,
    ) -> None:
        """`speeds` gives each cache variant's speed; `soft` holds the parent's log posteriors per variant."""
        self._cache, self._speeds, self._examples = cache, tuple(speeds), tuple(examples)
        self._left, self._right = net.left_context, net.right_context
        self._subsampling = net.subsampling
        self._batch_frames = batch_frames
        self._soft = soft

    def plan(self, seed: int, epoch: int) -> list[list[tuple[int, int]]]:
        """The epoch's batches as (example, variant) pairs: a random variant each, similar lengths together."""
        rng = np.random.default_rng([seed, epoch])
        variants = rng.integers(len(self._speeds), size=len(self._examples))
        items = [(index, int(variant)) for index, variant in enumerate(variants)]
        lengths = np.array([self._cache.length(self._examples[i].utterance, v) for i, v in items])
        order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(items)), kind="stable")
        batches: list[list[tuple[int, int]]] = [[]]
        longest = 0
        for index in order:
            longest = max(longest, int(lengths[index]))
            if batches[-1] and longest * (len(batches[-1]) + 1) > self._batch_frames:
                batches.append([])
                longest = int(lengths[index])
            batches[-1].append(items[index])
        return [batches[i] for i in rng.permutation(len(batches))]

    def load(self, pairs: Sequence[tuple[int, int]], augment: AugmentTable | None, rng: np.random.Generator) -> Batch:
        """Padded tensors of one batch; padding repeats edge frames, as at recognition."""
        arrays = [self._cache.get(self._examples[i].utterance, v).astype(np.float32) for i, v in pairs]
        if augment is not None:
            for array in arrays:
                spec_augment(array, augment, rng)
        longest = max(len(a) for a in arrays)
        features = np.stack(
            [np.pad(a, ((self._left, self._right + longest - len(a)), (0, 0)), mode="edge") for a in arrays]
        )
        lengths = [(len(a) - 1) // self._subsampling + 1 for a in arrays]
        labels = np.full((len(pairs), max(lengths)), -1, dtype=np.int64)
        soft = None
        for row, (index, variant) in enumerate(pairs):
            source = self._examples[index].labels
            if len(source):
                positions = np.round(np.arange(lengths[row]) * self._speeds[variant]).astype(int)
                labels[row, : lengths[row]] = source[np.minimum(positions, len(source) - 1)]
        if self._soft is not None:
            parts = [self._soft.get(self._examples[i].utterance, v).astype(np.float32) for i, v in pairs]
            soft = np.zeros((len(pairs), max(lengths), parts[0].shape[1]), dtype=np.float32)
            for row, part in enumerate(parts):
                soft[row, : len(part)] = part
        phones = [self._examples[i].phones or () for i, _ in pairs]
        return Batch(
            features=torch.from_numpy(features),
            lengths=torch.tensor(lengths),
            phones=torch.tensor([p for sequence in phones for p in sequence], dtype=torch.long),
            phone_lengths=torch.tensor([len(sequence) for sequence in phones]),
            labels=torch.from_numpy(labels),
            soft=None if soft is None else torch.from_numpy(soft),
        )

    def epoch(self, seed: int, epoch: int, first: int, augment: AugmentTable) -> Iterator[Batch]:
        """The epoch's batches from number `first` on."""
        for number, pairs in enumerate(self.plan(seed, epoch)):
            if number >= first:
                yield self.load(pairs, augment, np.random.default_rng([seed, epoch, number]))


def spec_augment(features: npt.NDArray[np.float32], table: AugmentTable, rng: np.random.Generator) -> None:
    """Zero random bands of frames and bins in place (zero is each bin's mean after normalisation)."""
    frames, bins = features.shape
    for _ in range(rng.poisson(table.time_masks_per_second * frames / 100)):
        width = int(rng.integers(0, min(table.time_width, frames // 4) + 1))
        start = int(rng.integers(0, frames - width + 1))
        features[start : start + width] = 0.0
    for _ in range(table.frequency_masks):
        width = int(rng.integers(0, min(table.frequency_width, bins // 2) + 1))
        start = int(rng.integers(0, bins - width + 1))
        features[:, start : start + width] = 0.0
    if rng.random() < table.band_limit:
        # A lossy codec empties the upper bands; floored and mean-normalised they are zero.
        features[:, bins - int(rng.integers(1, max(2, round(bins * table.band_limit_bins) + 1))) :] = 0.0
