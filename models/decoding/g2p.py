"""Pronunciations of unseen words: a joint n-gram model over graphones.

After Bisani and Ney, "Joint-sequence models for grapheme-to-phoneme conversion" (2008), with letters aligned to at
most two phones and the n-gram model estimated with Kneser-Ney smoothing.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .alignment import Graphone, Pronunciation, align
from .kneser_ney import count, estimate
from .ngram import END, START_ID, NgramModel, Vocabulary


def _name(unit: Graphone) -> str:
    return unit[0] + ":" + "_".join(unit[1])


@dataclass(frozen=True)
class Spoken:
    """One pronunciation proposed for a word.

    Attributes:
        phones: ARPAbet phones without stress.
        logprob: natural log of the joint probability of letters and phones.
    """

    phones: Pronunciation
    logprob: float


class GraphemeToPhoneme:
    """A trained model. ``pronounce`` may be called from many threads."""

    def __init__(self, model: NgramModel) -> None:
        self._order = model.order
        self._backoff: dict[tuple[int, ...], float] = {}
        self._probability: dict[tuple[int, ...], float] = {}
        grams: list[tuple[int, ...]] = [()]
        for number, level in enumerate(model.levels):
            grams = [
                (*grams[parent], word) for parent, word in zip(level.parent.tolist(), level.word.tolist(), strict=True)
            ]
            self._probability.update(zip(grams, level.logprob.tolist(), strict=True))
            if number + 1 < model.order:
                self._backoff.update(
                    (gram, weight) for gram, weight in zip(grams, level.backoff.tolist(), strict=True) if weight != 0.0
                )
        self._end = model.vocabulary.id(END)
        self._units: defaultdict[str, list[tuple[int, Pronunciation]]] = defaultdict(list)
        for number, name in enumerate(model.vocabulary.words[3:], start=3):
            letter, _, phones = name.partition(":")
            self._units[letter].append((number, tuple(phones.split("_")) if phones else ()))

    @classmethod
    def train(
        cls, pairs: Sequence[tuple[str, Pronunciation]], order: int = 7, iterations: int = 8, rarest: int = 3
    ) -> "GraphemeToPhoneme":
        """Train on (spelling, phones) pairs; alignments with a graphone seen less than ``rarest`` times are dropped."""
        aligned = [[_name(unit) for unit in units] for units in align(pairs, iterations)]
        uses: defaultdict[str, int] = defaultdict(int)
        for names in aligned:
            for name in names:
                uses[name] += 1
        aligned = sorted(names for names in aligned if all(uses[name] >= rarest for name in names))
        vocabulary = Vocabulary(sorted({name for names in aligned for name in names}))
        counts = count(vocabulary.encode(aligned), vocabulary, order)
        return cls(estimate(counts).model())

    def _logprob(self, history: tuple[int, ...], unit: int) -> float:
        result = 0.0
        while True:
            stored = self._probability.get((*history, unit))
            if stored is not None:
                return result + stored
            result += self._backoff.get(history, 0.0)
            history = history[1:]

    def pronounce(self, word: str, variants: int = 1, beam: int = 12, margin: float = 6.0) -> tuple[Spoken, ...]:
        """Return up to ``variants`` different pronunciations of ``word``, likeliest first.

        Empty when the word has a character that no training word had.

        Args:
            word: spelling, in the case of the training words.
            variants: most pronunciations to return.
            beam: hypotheses kept after each letter.
            margin: hypotheses further than this (natural log) below the best one are dropped.
        """
        hypotheses: list[tuple[float, tuple[int, ...], Pronunciation]] = [(0.0, (START_ID,), ())]
        for letter in word:
            grown = [
                (score + self._logprob(history, unit), (*history, unit)[1 - self._order :], said + phones)
                for score, history, said in hypotheses
                for unit, phones in self._units.get(letter, ())
            ]
            if not grown:
                return ()
            best = heapq.nlargest(beam, grown, key=lambda item: item[0])
            hypotheses = [item for item in best if item[0] >= best[0][0] - margin]
        totals: dict[Pronunciation, float] = {}
        for score, history, said in hypotheses:
            whole = score + self._logprob(history, self._end)
            if said in totals:
                high, low = max(whole, totals[said]), min(whole, totals[said])
                whole = high + math.log1p(math.exp(low - high))
            if said:
                totals[said] = whole
        ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Spoken(phones, score) for phones, score in ranked[:variants])


def edit_distance(left: Sequence[object], right: Sequence[object]) -> int:
    """Return the least number of insertions, deletions and substitutions that turn one sequence into the other."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
