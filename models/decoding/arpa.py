"""N-gram models in the ARPA format, base-10 logarithms."""

from pathlib import Path

import numpy as np

from .errors import LanguageModelError
from .ngram import SPECIALS, Level, NgramModel, Vocabulary

_LN10 = float(np.log(10.0))


def write(model: NgramModel, path: Path) -> None:
    """Write ``model`` as an ARPA file."""
    names = model.vocabulary.words
    with path.open("w", encoding="utf-8") as out:
        out.write("\\data\\\n" + "".join(f"ngram {n}={count}\n" for n, count in enumerate(model.counts, start=1)))
        grams: list[tuple[str, ...]] = [()]
        for order, level in enumerate(model.levels, start=1):
            grams = [(*grams[parent], names[word]) for parent, word in zip(level.parent, level.word, strict=True)]
            out.write(f"\n\\{order}-grams:\n")
            for gram, logprob, backoff in zip(grams, level.logprob, level.backoff, strict=True):
                tail = f"\t{backoff / _LN10:.7g}" if order < model.order else ""
                out.write(f"{logprob / _LN10:.7g}\t{' '.join(gram)}{tail}\n")
        out.write("\n\\end\\\n")


def read(path: Path) -> NgramModel:
    """Read an ARPA file.

    Raises:
        LanguageModelError: the file is cut off, a line is malformed, or an n-gram's first n-1 words are not in it.
    """
    sections: list[list[tuple[tuple[str, ...], float, float]]] = []
    ended = False
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if line.endswith("-grams:"):
            sections.append([])
        elif line == "\\end\\":
            ended = True
        elif sections and line:
            fields = line.split("\t")
            try:
                gram = tuple(fields[1].split())
                backoff = float(fields[2]) if len(fields) > 2 else 0.0
                sections[-1].append((gram, float(fields[0]) * _LN10, backoff * _LN10))
            except (IndexError, ValueError) as error:
                raise LanguageModelError(f"{path}:{number}: malformed n-gram {raw!r}") from error
    if not ended or not sections:
        raise LanguageModelError(f"{path} is cut off: it has no \\end\\")
    vocabulary = Vocabulary(gram[0] for gram, _, _ in sections[0])
    if len(vocabulary) != len(sections[0]):
        raise LanguageModelError(f"{path} must list {', '.join(SPECIALS)} and every word once among its unigrams")
    levels: list[Level] = []
    places: dict[tuple[str, ...], int] = {(): 0}
    for order, entries in enumerate(sections, start=1):
        rows = []
        for gram, logprob, backoff in entries:
            if len(gram) != order or gram[:-1] not in places:
                raise LanguageModelError(f"{path}: {' '.join(gram)!r} is no {order}-gram with its first words listed")
            rows.append((places[gram[:-1]], vocabulary.id(gram[-1]), logprob, backoff, gram))
        rows.sort()
        places = {row[4]: place for place, row in enumerate(rows)}
        parent, word = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        logprobs, backoffs = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
        levels.append(Level(parent.astype(np.int64), word.astype(np.int64), logprobs, backoffs, len(vocabulary)))
    return NgramModel(vocabulary, tuple(levels))
