"""Small graphs for the tests, and a slow search that tries every path."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.decoding import Graph, GraphDecoder, graph_file
from models.decoding.graph import Domain, sections
from models.decoding.kneser_ney import count, estimate
from models.decoding.lexicon import Lexicon
from models.decoding.ngram import END, START, NgramModel, Vocabulary

UNITS = ("<blank>", "AA", "B", "K", "T")
WIDE: dict[str, float] = {"beam": 1e4, "max_active": 1_000_000}

ENTRIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "TAB": (("T", "AA", "B"),),
    "TACK": (("T", "AA", "K"),),
    "A": (("AA",),),
    "AT": (("AA", "T"), ("T",)),
    "ATT": (("AA", "T", "T"),),
    "TAAB": (("T", "AA", "B"),),
}
TEXT = [line.split() for line in ("A TAB AT A TACK", "A TAAB", "AT A TAB", "ATT A TACK A TAB", "TACK AT A TAAB", "A A")]


def model(text: Sequence[Sequence[str]] = TEXT, words: Sequence[str] = tuple(ENTRIES), order: int = 3) -> NgramModel:
    vocabulary = Vocabulary(words)
    return estimate(count(vocabulary.encode(text), vocabulary, order)).model()


def domain(
    lm: NgramModel | None = None,
    entries: Mapping[str, tuple[tuple[str, ...], ...]] = ENTRIES,
    prior: float = 1.0,
    name: str = "test",
) -> Domain:
    return Domain(name, lm or model(), Lexicon(entries), prior)


def write(folder: Path, *domains: Domain) -> Path:
    graph_file.write(folder, sections(domains or (domain(),), UNITS), {"name": folder.name})
    return folder


def decoder(folder: Path, **options: float) -> GraphDecoder:
    return GraphDecoder(Graph.load(folder), UNITS, **{**WIDE, **options})  # type: ignore[arg-type]


def log_softmax(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return np.log(exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


def spoken(phones: Sequence[str], margin: float = 8.0) -> npt.NDArray[np.float32]:
    """Log probabilities that clearly say the phones, a blank before each."""
    values = np.zeros((2 * len(phones) + 1, len(UNITS)), dtype=np.float32)
    values[::2, 0] = margin
    for place, phone in enumerate(phones):
        values[2 * place + 1, UNITS.index(phone)] = margin
    return log_softmax(values)


def _segmentations(phones: tuple[str, ...], entries: Mapping[str, Sequence[tuple[str, ...]]]) -> Iterator[list[str]]:
    if not phones:
        yield []
    for word, variants in entries.items():
        for said in variants:
            if phones[: len(said)] == said:
                for rest in _segmentations(phones[len(said) :], entries):
                    yield [word, *rest]


def exhaustive(
    log_probs: npt.NDArray[np.float32], domains: Sequence[Domain], *, lm_weight: float, word_score: float
) -> dict[tuple[str, ...], float]:
    """Score of the best alignment of every word sequence, by trying every path of units."""
    acoustic: dict[tuple[str, ...], float] = {}
    for path in itertools.product(range(len(UNITS)), repeat=len(log_probs)):
        said = tuple(UNITS[unit] for unit, _ in itertools.groupby(path) if unit != 0)
        score = float(sum(log_probs[frame, unit] for frame, unit in enumerate(path)))
        acoustic[said] = max(acoustic.get(said, -math.inf), score)
    scores: dict[tuple[str, ...], float] = {}
    for kind in domains:
        entries = {word: kind.lexicon.pronunciations(word) for word in kind.lexicon.words()}
        names = kind.model.vocabulary
        for said, score in acoustic.items():
            for words in _segmentations(said, entries):
                stream = names.encode([words])
                assert stream[0] == names.id(START)
                assert stream[-1] == names.id(END)
                language = float(kind.model.score(stream)[1:].sum()) + math.log(kind.prior)
                total = score + lm_weight * language + word_score * len(words)
                scores[tuple(words)] = max(scores.get(tuple(words), -math.inf), total)
    return scores
