"""Back-off n-gram models as sorted arrays, with vectorised queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
SPECIALS = (UNKNOWN, START, END)
UNKNOWN_ID, START_ID, END_ID = 0, 1, 2
LOG_ZERO = -99.0 * float(np.log(10.0))  # what ARPA files write for the impossible <s>


class Vocabulary:
    """Words and their numbers; 0, 1 and 2 are ``<unk>``, ``<s>`` and ``</s>``."""

    def __init__(self, words: Iterable[str]) -> None:
        """Number ``words`` in the order given; specials are put in front and repeats dropped."""
        self.words: tuple[str, ...] = tuple(dict.fromkeys((*SPECIALS, *words)))
        self._ids = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """Return the number of ``word``, that of ``<unk>`` when it is not in the vocabulary."""
        return self._ids.get(word, UNKNOWN_ID)

    def encode(self, sentences: Iterable[Sequence[str]]) -> IntArray:
        """Return one stream ``<s> w ... </s> <s> w ... </s>`` of word numbers, [tokens]."""
        get = self._ids.get
        stream: list[npt.NDArray[np.int32]] = []
        chunk: list[int] = []
        for sentence in sentences:
            chunk.append(START_ID)
            chunk.extend([get(word, UNKNOWN_ID) for word in sentence])
            chunk.append(END_ID)
            if len(chunk) > 1_000_000:  # Python ints are ten times the size of the array's
                stream.append(np.array(chunk, dtype=np.int32))
                chunk = []
        stream.append(np.array(chunk, dtype=np.int32))
        return np.concatenate(stream).astype(np.int64)


@dataclass(frozen=True)
class Level:
    """All n-grams of one order, sorted by (parent, word).

    Attributes:
        parent: index of the n-gram without its last word in the level below, [n]; zeros for unigrams.
        word: last word, [n].
        logprob: natural log of P(word | the words before it), [n].
        backoff: natural log of the back-off weight when the n-gram is a history, [n]; zeros in the highest order.
        words: size of the vocabulary, which makes the keys unique.
    """

    parent: IntArray
    word: IntArray
    logprob: FloatArray
    backoff: FloatArray
    words: int
    key: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.parent * self.words + self.word)

    def __len__(self) -> int:
        return len(self.word)

    def find(self, parent: IntArray, word: IntArray) -> IntArray:
        """Return the index of each (parent, word), -1 where there is none or where parent is -1."""
        if len(self.key) == 0:
            return np.full(len(word), -1, dtype=np.int64)
        wanted = parent * self.words + word
        place = np.searchsorted(self.key, wanted)
        place[place == len(self.key)] = 0
        place[(self.key[place] != wanted) | (parent < 0)] = -1
        return place


@dataclass(frozen=True)
class NgramModel:
    """A back-off model: P(w | h) is the stored n-gram's, or the back-off weight of h times P(w | shorter h).

    Attributes:
        vocabulary: the words.
        levels: one ``Level`` an order; ``levels[0]`` holds every word, indexed by its number.
    """

    vocabulary: Vocabulary
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Longest n-gram."""
        return len(self.levels)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """N-grams of each order."""
        return tuple(len(level) for level in self.levels)

    def nodes(self, stream: IntArray) -> list[IntArray]:
        """Return for each order the index of the n-gram that ends at each token, -1 where the model has none."""
        found = [stream.astype(np.int64)]
        for level in self.levels[1:]:
            before = np.concatenate([[-1], found[-1][:-1]])
            found.append(level.find(before, stream))
        return found

    def score(self, stream: IntArray) -> FloatArray:
        """Return ln P(token | the tokens before it) for every token of a stream with sentence marks, [tokens].

        The values at ``<s>`` mean nothing: a sentence start is given, never predicted.
        """
        found = self.nodes(stream)
        result = self.levels[0].logprob[stream].copy()
        for order in range(2, self.order + 1):
            level, below = self.levels[order - 1], self.levels[order - 2]
            history = np.concatenate([[-1], found[order - 2][:-1]])
            here = found[order - 1]
            known = history >= 0
            result[known] += below.backoff[history[known]]
            result[here >= 0] = level.logprob[here[here >= 0]]
        return result

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Return the perplexity over words and sentence ends, out-of-vocabulary words left out."""
        stream = self.vocabulary.encode(sentences)
        score = self.score(stream)
        counted = (stream != START_ID) & (stream != UNKNOWN_ID)
        return float(np.exp(-score[counted].mean()))

    def distribution(self, history: Sequence[str]) -> FloatArray:
        """Return P(w | history) for every word of the vocabulary, [words]; for tests and small models."""
        size = len(self.vocabulary)
        context = np.array([self.vocabulary.id(word) for word in history], dtype=np.int64)
        streams = np.concatenate([np.tile(context, (size, 1)), np.arange(size)[:, None]], axis=1)
        width = streams.shape[1]
        scores = np.empty(size)
        for row in range(size):
            scores[row] = self.score(streams[row])[width - 1]
        return np.exp(scores)
