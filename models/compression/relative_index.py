"""Sparse matrices whose entries say how many zeros they follow, in few bits each (Han et al., arXiv 1510.00149).

An entry that follows more zeros than its bits can say has *fillers* before it, entries of value zero. Entries are
counted with fillers, output by output; what lies behind an output's last entry costs nothing.
"""

from __future__ import annotations

from bisect import bisect, insort
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def lay_out(kept: Mask, gap_bits: int) -> tuple[Integers, Integers, Integers]:
    """Where the entries of the `kept` places [Q, R] are, fillers among them.

    Returns:
        Of every entry its place ``c * Q + q``, -1 for a filler; the zeros it follows; and the entries of each output.
    """
    Q, R = kept.shape
    places = np.flatnonzero(kept.T)
    zeros = _zeros(places, Q)
    span = 1 << gap_bits
    fillers = zeros // span
    ends = np.cumsum(fillers + 1) - 1
    entries = np.full(len(places) + int(fillers.sum()), -1, np.int64)
    gaps = np.full(len(entries), span - 1, np.int64)
    entries[ends], gaps[ends] = places, zeros % span
    counts = np.bincount(places // Q, fillers + 1, R).astype(np.int64)
    return entries, gaps, counts


def inputs_of(gaps: npt.NDArray[Any], counts: Integers) -> Integers:
    """The input of every entry, from the zeros it follows and the entries of each output."""
    travelled = np.concatenate([[0], np.cumsum(gaps.astype(np.int64) + 1)])
    starts = np.concatenate([[0], np.cumsum(counts)])
    inputs: Integers = travelled[1:] - np.repeat(travelled[starts[:-1]], counts) - 1
    return inputs


def fit(importance: npt.NDArray[Any], entries: int, gap_bits: int) -> Mask:
    """The places [Q, R] to keep, the most important first, that take exactly `entries` entries with their fillers.

    Args:
        importance: [Q, R].
        entries: at most ``Q * R``.
        gap_bits: bits that say how many zeros an entry follows.
    """
    Q = len(importance)
    flat = np.ascontiguousarray(importance.T).reshape(-1)
    order = _first(flat, entries)
    # Another place never takes fewer entries: halving finds how many fit.
    low, high = 0, entries
    while low < high:
        middle = (low + high + 1) // 2
        if _count(np.sort(order[:middle]), Q, gap_bits) <= entries:
            low = middle
        else:
            high = middle - 1
    left = entries - _count(np.sort(order[:low]), Q, gap_bits)
    kept = np.zeros(flat.size, np.bool_)
    kept[order[:low]] = True
    if left:
        # A few entries are left, too few for the next place: whatever fits.
        left = _fill(kept, order[low:], left, Q, gap_bits)
    if left:
        _fill(kept, _first(np.where(kept, -np.inf, flat), flat.size), left, Q, gap_bits)
    return np.ascontiguousarray(kept.reshape(importance.shape[::-1]).T)


def expected_fillers(density: float, gap_bits: int) -> float:
    """Fillers per entry where a share `density` of all places is kept at random."""
    beyond = (1.0 - density) ** (1 << gap_bits)
    return beyond / (1.0 - beyond) if beyond < 1.0 else np.inf


def _first(importance: npt.NDArray[Any], count: int) -> Integers:
    best = np.argpartition(-importance, min(count, importance.size) - 1)[:count]
    return best[np.argsort(-importance[best], kind="stable")]


def _zeros(places: Integers, Q: int) -> Integers:
    """The zeros that ascending places ``c * Q + q`` follow within their output."""
    inputs, outputs = places % Q, places // Q
    same = np.diff(outputs, prepend=-1) == 0
    before = np.where(same, np.concatenate([[-1], inputs[:-1]])[: len(inputs)], -1)
    return inputs - before - 1


def _count(places: Integers, Q: int, gap_bits: int) -> int:
    return len(places) + int((_zeros(places, Q) >> gap_bits).sum())


def _fill(kept: Mask, candidates: Integers, left: int, Q: int, gap_bits: int) -> int:
    """Keep what of `candidates` takes no more than the `left` entries; returns how many are left then."""
    columns: dict[int, list[int]] = {}
    for place in candidates.tolist():
        if kept[place]:
            continue
        output, q = divmod(place, Q)
        if output not in columns:
            columns[output] = np.flatnonzero(kept[output * Q : output * Q + Q]).tolist()
        column = columns[output]
        at = bisect(column, q)
        before = column[at - 1] if at else -1
        more = 1 + (q - before - 1 >> gap_bits)
        if at < len(column):
            after = column[at]
            more += (after - q - 1 >> gap_bits) - (after - before - 1 >> gap_bits)
        if more <= left:
            kept[place] = True
            insort(column, q)
            left -= more
            if not left:
                break
    return left
