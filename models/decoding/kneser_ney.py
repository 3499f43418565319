"""Interpolated modified Kneser-Ney estimation (Chen and Goodman 1998) with NumPy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .ngram import LOG_ZERO, START_ID, FloatArray, IntArray, Level, NgramModel, Vocabulary

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CountLevel:
    """Every n-gram of one order seen in the text, sorted by (parent, word).

    Attributes:
        parent: index of its first n-1 words in the order below, [n].
        word: last word, [n].
        suffix: index of its last n-1 words in the order below, [n].
        count: occurrences, [n].
        starts: whether it starts with ``<s>``, [n].
    """

    parent: IntArray
    word: IntArray
    suffix: IntArray
    count: IntArray
    starts: BoolArray

    def __len__(self) -> int:
        return len(self.word)


@dataclass(frozen=True)
class Counts:
    """N-gram counts of a text, all orders. ``levels[0]`` is indexed by word number."""

    vocabulary: Vocabulary
    levels: tuple[CountLevel, ...]


def count(stream: IntArray, vocabulary: Vocabulary, order: int) -> Counts:
    """Count the n-grams up to ``order`` of a token stream with sentence marks (``Vocabulary.encode``)."""
    size = len(vocabulary)
    place = np.arange(len(stream)) - np.maximum.accumulate(np.where(stream == START_ID, np.arange(len(stream)), 0))
    place = place.astype(np.int32)
    node = stream.astype(np.int64)
    zeros = np.zeros(size, dtype=np.int64)
    starts = np.zeros(size, dtype=np.bool_)
    starts[START_ID] = True
    levels = [CountLevel(zeros, np.arange(size), zeros, np.bincount(stream, minlength=size), starts)]
    for length in range(2, order + 1):
        ends = np.flatnonzero(place >= length - 1)
        keys, inverse, counts = np.unique(node[ends - 1] * size + stream[ends], return_inverse=True, return_counts=True)
        suffix = np.empty(len(keys), dtype=np.int64)
        suffix[inverse] = node[ends]
        starts = np.zeros(len(keys), dtype=np.bool_)
        starts[inverse[place[ends] == length - 1]] = True
        levels.append(CountLevel(keys // size, keys % size, suffix, counts.astype(np.int64), starts))
        node = np.full(len(stream), -1, dtype=np.int64)
        node[ends] = inverse
    return Counts(vocabulary, tuple(levels))


def discounts(adjusted: IntArray) -> FloatArray:
    """Return the discounts of counts 0, 1, 2 and 3 or more, from the counts of counts.

    A text too small to have all four counts of counts gets the fixed 0.5, 1, 1.5.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(adjusted == value)) for value in (1, 2, 3, 4))
    fixed = np.array([0.0, 0.5, 1.0, 1.5])
    if min(n1, n2, n3, n4) == 0:
        return fixed
    y = n1 / (n1 + 2 * n2)
    values = np.array([0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return values if (values[1:] > 0).all() and (values[1:] < [1, 2, 3]).all() else fixed


@dataclass(frozen=True)
class Estimate:
    """Probabilities of every counted n-gram, kept or not, before compaction.

    Attributes:
        counts: the counts they come from.
        keep: per order, which n-grams the model holds.
        probability: per order, P(word | history), [n].
        backoff: per order but the last, the back-off weight of the n-gram as a history, [n].
    """

    counts: Counts
    keep: tuple[BoolArray, ...]
    probability: tuple[FloatArray, ...]
    backoff: tuple[FloatArray, ...]

    def model(self) -> NgramModel:
        """Return the kept n-grams as a back-off model."""
        levels: list[Level] = []
        renumber = np.zeros(1, dtype=np.int64)
        for number, (level, keep) in enumerate(zip(self.counts.levels, self.keep, strict=True)):
            with np.errstate(divide="ignore"):
                logprob = np.log(self.probability[number][keep])
                backoff = np.log(self.backoff[number][keep]) if number < len(self.backoff) else np.zeros(keep.sum())
            levels.append(
                Level(
                    renumber[level.parent[keep]],
                    level.word[keep],
                    np.maximum(logprob, LOG_ZERO),
                    np.maximum(backoff, LOG_ZERO),
                    len(self.counts.vocabulary),
                )
            )
            renumber = np.cumsum(keep) - 1
        return NgramModel(self.counts.vocabulary, tuple(levels))


def _adjusted(counts: Counts) -> list[IntArray]:
    """Return what each order is estimated from: occurrences at the top and after <s>, else different words before."""
    adjusted = [counts.levels[-1].count]
    for above, below in zip(counts.levels[:0:-1], counts.levels[-2::-1], strict=True):
        different = np.bincount(above.suffix, minlength=len(below))
        adjusted.insert(0, np.where(below.starts, below.count, different))
    adjusted[0][START_ID] = 0
    return adjusted


def estimate(counts: Counts) -> Estimate:
    """Estimate the model of every counted n-gram."""
    size = len(counts.vocabulary)
    lower = np.full(size, 1.0 / (size - 1))  # every word but <s>
    lower[START_ID] = 0.0
    probability: list[FloatArray] = []
    backoff: list[FloatArray] = []
    for number, (level, value) in enumerate(zip(counts.levels, _adjusted(counts), strict=True)):
        histories = 1 if number == 0 else len(counts.levels[number - 1])
        total = np.bincount(level.parent, weights=value, minlength=histories)
        own = (value - discounts(value)[np.minimum(value, 3)]) / np.maximum(total, 1)[level.parent]
        rest = np.subtract(1.0, np.bincount(level.parent, weights=own, minlength=histories), dtype=np.float64)
        if number > 0:
            backoff.append(rest)
            lower = probability[-1][level.suffix]
        probability.append(own + rest[level.parent] * lower)
    keep = tuple(np.ones(len(level), dtype=np.bool_) for level in counts.levels)
    return Estimate(counts, keep, tuple(probability), tuple(backoff))
