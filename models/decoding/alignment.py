"""Letters aligned with phones by expectation maximisation: each letter says no, one or two phones."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

Pronunciation = tuple[str, ...]
Graphone = tuple[str, Pronunciation]  # a letter and the phones it says

MOST_PHONES = 2  # a letter says at most two: the X of BOX


class _Group:
    """All pairs with the same numbers of letters and phones, so that one table serves them together."""

    def __init__(self, pairs: Sequence[tuple[str, Pronunciation]], numbers: dict[Graphone, int]) -> None:
        self.pairs = pairs
        self.letters, self.phones = len(pairs[0][0]), len(pairs[0][1])
        # chunk[i, j, k][pair]: graphone of letter i saying the k phones from j on
        self.chunk = {
            (i, j, k): np.array(
                [numbers.setdefault((word[i], said[j : j + k]), len(numbers)) for word, said in pairs], dtype=np.int64
            )
            for i in range(self.letters)
            for j in range(self.phones + 1)
            for k in range(MOST_PHONES + 1)
            if j + k <= self.phones
            and self.phones - j - k <= MOST_PHONES * (self.letters - i - 1)
            and j <= MOST_PHONES * i
        }

    def expect(self, probability: np.ndarray, totals: np.ndarray) -> None:
        """Add the expected uses of every graphone to ``totals``."""
        shape = (self.letters + 1, self.phones + 1, len(self.pairs))
        forward, backward = np.zeros(shape), np.zeros(shape)
        forward[0, 0] = backward[self.letters, self.phones] = 1.0
        for (i, j, k), number in self.chunk.items():
            forward[i + 1, j + k] += forward[i, j] * probability[number]
        for (i, j, k), number in reversed(self.chunk.items()):
            backward[i, j] += backward[i + 1, j + k] * probability[number]
        whole = np.maximum(forward[self.letters, self.phones], 1e-300)
        for (i, j, k), number in self.chunk.items():
            weight = forward[i, j] * probability[number] * backward[i + 1, j + k] / whole
            totals += np.bincount(number, weights=weight, minlength=len(totals))

    def best(self, logarithm: np.ndarray) -> Iterator[tuple[Graphone, ...]]:
        """Yield the likeliest alignment of each pair."""
        shape = (self.letters + 1, self.phones + 1, len(self.pairs))
        score = np.full(shape, -np.inf)
        score[0, 0] = 0.0
        taken = np.zeros(shape, dtype=np.int8)
        for (i, j, k), number in self.chunk.items():
            reached = score[i, j] + logarithm[number]
            better = reached > score[i + 1, j + k]
            score[i + 1, j + k][better] = reached[better]
            taken[i + 1, j + k][better] = k
        for row, (word, said) in enumerate(self.pairs):
            j, units = self.phones, []
            for i in range(self.letters, 0, -1):
                k = int(taken[i, j, row])
                units.append((word[i - 1], said[j - k : j]))
                j -= k
            yield tuple(reversed(units))


def align(pairs: Sequence[tuple[str, Pronunciation]], iterations: int = 8) -> list[tuple[Graphone, ...]]:
    """Align spellings with pronunciations.

    Args:
        pairs: (spelling, phones); a pair with more than twice as many phones as letters is left out.
        iterations: passes of expectation maximisation over all pairs.

    Returns:
        One tuple of graphones a pair, its letters in order; the order of the pairs is not kept.
    """
    shapes: defaultdict[tuple[int, int], list[tuple[str, Pronunciation]]] = defaultdict(list)
    for word, said in pairs:
        if 0 < len(said) <= MOST_PHONES * len(word):
            shapes[len(word), len(said)].append((word, said))
    numbers: dict[Graphone, int] = {}
    groups = [_Group(members, numbers) for _, members in sorted(shapes.items())]
    probability = np.full(len(numbers), 1.0 / len(numbers))
    for _ in range(iterations):
        totals = np.zeros(len(numbers))
        for group in groups:
            group.expect(probability, totals)
        probability = totals / totals.sum()
    with np.errstate(divide="ignore"):
        logarithm = np.maximum(np.log(probability), -1e3)
    return [units for group in groups for units in group.best(logarithm)]
