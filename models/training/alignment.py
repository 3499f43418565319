"""Forced alignment of transcripts to frames: Viterbi over a graph of pronunciations with optional silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SILENCE = 0
IGNORED = -1

Pronunciations = Callable[[str], Sequence[Sequence[int]]]
"""Word to its pronunciations as unit numbers (1...); an empty answer makes the word a wildcard of any phones."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best path of one utterance.

    Attributes:
        labels: int16 [frames], unit per frame, `SILENCE` between words, `IGNORED` inside wildcard words.
        phones: the unit sequence with the chosen pronunciations; None when a wildcard word is part of it.
        score: mean log-likelihood ratio per frame, low for a wrong transcript.
    """

    labels: npt.NDArray[np.int16]
    phones: tuple[int, ...] | None
    score: float


class _Graph:
    """States in topological order with their predecessors."""

    def __init__(self) -> None:
        self.units: list[int] = []
        self.predecessors: list[list[int]] = []

    def add(self, unit: int, predecessors: Sequence[int]) -> int:
        self.units.append(unit)
        self.predecessors.append(list(predecessors))
        return len(self.units) - 1


def _build(words: Sequence[str], pronunciations: Pronunciations) -> tuple[_Graph, list[int], list[int]]:
    graph = _Graph()
    silence = graph.add(SILENCE, [])
    starts = [silence]
    ends = [silence]
    at_start = True
    for word in words:
        variants = pronunciations(word) or [[IGNORED]]
        word_ends = []
        for variant in variants:
            previous = list(ends)
            for position, unit in enumerate(variant):
                state = graph.add(unit, previous)
                if position == 0 and at_start:
                    starts.append(state)
                previous = [state]
            word_ends.append(previous[0])
        at_start = False
        ends = [*word_ends, graph.add(SILENCE, word_ends)]
    return graph, starts, ends


def align(
    log_likelihoods: npt.NDArray[np.float32],
    words: Sequence[str],
    pronunciations: Pronunciations,
    wildcard_penalty: float = 1.0,
) -> Alignment | None:
    """Align `words` to `log_likelihoods` [frames, units] (column 0 is silence).

    Returns None when there are fewer frames than phones.
    """
    graph, starts, ends = _build(words, pronunciations)
    states, frames = len(graph.units), len(log_likelihoods)
    widest = max(len(p) for p in graph.predecessors) + 1
    # A virtual state of score -inf pads the predecessor table.
    table = np.full((states, widest), states, dtype=np.int64)
    for state, previous in enumerate(graph.predecessors):
        table[state, 0] = state
        table[state, 1 : 1 + len(previous)] = previous
    wildcard = log_likelihoods[:, 1:].max(axis=1, keepdims=True) - wildcard_penalty
    emissions = np.concatenate([log_likelihoods, wildcard], axis=1)[:, graph.units]
    score = np.full(states + 1, -np.inf, dtype=np.float32)
    score[starts] = emissions[0, starts]
    back = np.empty((frames, states), dtype=np.int8 if widest < 128 else np.int16)
    rows = np.arange(states)
    for frame in range(1, frames):
        candidates = score[table]
        best = candidates.argmax(axis=1)
        back[frame] = best
        score[:-1] = candidates[rows, best] + emissions[frame]
    final = max(ends, key=lambda state: score[state])
    if not np.isfinite(score[final]):
        return None
    path = np.empty(frames, dtype=np.int64)
    state = final
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        if frame:
            state = int(table[state, back[frame, state]])
    units = np.asarray(graph.units)
    visited = path[np.r_[True, np.diff(path) != 0]]
    sequence = [int(units[s]) for s in visited if units[s] != SILENCE]
    return Alignment(
        labels=units[path].astype(np.int16),
        phones=None if IGNORED in sequence else tuple(sequence),
        score=float(score[final] / frames - log_likelihoods.max(axis=1).mean()),
    )
