"""Which words two transcripts differ in: the alignment with the fewest edits (V. Levenshtein, 1966)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_OUTSIDE_A_WORD = re.compile(r"[^\w']+")


class EditKind(StrEnum):
    """What became of a word of the reference."""

    SAME = "same"
    SUBSTITUTED = "substituted"
    DELETED = "deleted"
    INSERTED = "inserted"


@dataclass(frozen=True, slots=True)
class Edit:
    """One place of an alignment.

    Attributes:
        kind: what became of the word.
        reference: the word of the reference, or None where one was inserted.
        hypothesis: the word in its place, or None where it was deleted.
    """

    kind: EditKind
    reference: str | None
    hypothesis: str | None


def differences(reference: str, hypothesis: str) -> tuple[Edit, ...]:
    """Every word of two texts, in order; case and punctuation make no difference."""
    left, right = reference.split(), hypothesis.split()
    numbers: dict[str, int] = {}
    keys = [[numbers.setdefault(_key(word), len(numbers)) for word in words] for words in (left, right)]
    edits = []
    for i, j in _places(*keys):
        if i is None:
            edits.append(Edit(EditKind.INSERTED, None, right[j or 0]))
        elif j is None:
            edits.append(Edit(EditKind.DELETED, left[i], None))
        else:
            kind = EditKind.SAME if keys[0][i] == keys[1][j] else EditKind.SUBSTITUTED
            edits.append(Edit(kind, left[i], right[j]))
    return tuple(edits)


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Substitutions, deletions and insertions between two sequences."""
    rows = deque(_rows(one, other), maxlen=1)
    return int(rows[-1][-1]) if rows else len(other)


def _rows(one: Sequence[int], other: Sequence[int]) -> Iterator[IntArray]:
    """Distances of every start of `one`, the empty one left out, to all starts of `other`."""
    row: IntArray = np.arange(len(other) + 1)
    target = np.asarray(other)
    steps = np.arange(len(other) + 1)
    for index, item in enumerate(one, start=1):
        # Insertions run along the row: the running minimum of (value - position) does them all at once.
        best = np.minimum(row[1:] + 1, row[:-1] + (target != item))
        row = np.minimum.accumulate(np.concatenate([[index], best]) - steps) + steps
        yield row


def _places(one: Sequence[int], other: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """Indices that stand opposite each other in an alignment with the fewest edits."""
    target = np.asarray(other)
    before: IntArray = np.arange(len(other) + 1)
    across, down = [], []
    for item, row in zip(one, _rows(one, other), strict=True):
        # One bit a cell instead of its number: an hour of speech would fill the memory otherwise.
        across.append(np.packbits(row[1:] == before[:-1] + (target != item)))
        down.append(np.packbits(row == before + 1))
        before = row
    i, j = len(one), len(other)
    places: list[tuple[int | None, int | None]] = []
    while i or j:
        if i and j and _bit(across[i - 1], j - 1):
            i, j = i - 1, j - 1
            places.append((i, j))
        elif i and _bit(down[i - 1], j):
            i -= 1
            places.append((i, None))
        else:
            j -= 1
            places.append((None, j))
    return places[::-1]


def _bit(packed: npt.NDArray[np.uint8], index: int) -> bool:
    return bool(packed[index >> 3] >> (7 - (index & 7)) & 1)


def _key(word: str) -> str:
    return _OUTSIDE_A_WORD.sub("", word).casefold() or word
