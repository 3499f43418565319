"""Building the default English graph from the training corpora: ``python -m models.decoding.build OUT``.

Two domains: prose, from the language-model text, and form filling (spelled words, numbers, dates, commands), from
AN4's training transcripts with a part of made-up sentences of the same kind.
"""

import argparse
import lzma
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import graph_file
from .errors import LexiconError
from .graph import Domain, sections
from .kneser_ney import count, estimate
from .lexicon import Lexicon, LexiconBuilder
from .mixing import mix
from .ngram import NgramModel, Vocabulary
from .pruning import prune
from .spoken_forms import LETTERS, numbers_and_dates, spelled

ATTRIBUTION = (
    "Language model estimated from Standard Ebooks (CC0) and the English Novel Corpus ELTeC-eng (COST Action Distant "
    "Reading for European Literary History, ed. Lou Burnard, doi:10.5281/zenodo.3533868; public domain texts), and "
    "from the training transcripts of AN4 (Carnegie Mellon University). Words also from LibriSpeech's training "
    "transcripts (Panayotov, Chen, Povey, Khudanpur, ICASSP 2015; CC BY 4.0). Pronunciations from the CMU Pronouncing "
    "Dictionary (Copyright 1993-2015 Carnegie Mellon University) and a model trained on it."
)
FORM_MIXTURE = (0.8, 0.1, 0.1)  # transcripts, spelled words, numbers and dates: tuned on held-out speakers of AN4-train

_USUAL = re.compile(r"[A-Z]+(?:'[A-Z]+)*'?")


def read_text(data: Path) -> list[list[str]]:
    """Return the sentences of the language-model text."""
    with lzma.open(data / "text" / "lm-text.txt.xz", "rt", encoding="utf-8") as lines:
        return [[sys.intern(word) for word in line.split()] for line in lines]


def read_transcripts(corpus: Path, left_out: frozenset[str] = frozenset()) -> list[list[str]]:
    """Return the transcripts of a corpus, without the utterances in ``left_out``."""
    rows = (corpus / "manifest.tsv").read_text(encoding="utf-8").splitlines()[1:]
    fields = [row.split("\t") for row in rows]
    return [row[4].split() for row in fields if row[0] not in left_out]


def prose_model(
    sentences: Sequence[Sequence[str]], words: int, extra: Sequence[str], order: int, ngrams: int
) -> NgramModel:
    """Estimate the prose model: the ``words`` commonest words and ``extra`` ones, pruned to ``ngrams`` n-grams."""
    uses = Counter(word for sentence in sentences for word in sentence)
    common = sorted(uses, key=lambda word: (-uses[word], word))
    usual = [word for word in common if _USUAL.fullmatch(word)][:words]
    vocabulary = Vocabulary([*usual, *sorted(extra)])
    return prune(estimate(count(vocabulary.encode(sentences), vocabulary, order)), ngrams).model()


def form_model(transcripts: Sequence[Sequence[str]], names: Sequence[str], order: int) -> NgramModel:
    """Estimate the form-filling model from transcripts, spelled ``names`` and made-up numbers and dates."""
    sources: list[Sequence[Sequence[str]]] = [transcripts, spelled(names), numbers_and_dates(seed=0, each=3000)]
    vocabulary = Vocabulary(sorted({word for source in sources for sentence in source for word in sentence}))
    models = [estimate(count(vocabulary.encode(source), vocabulary, order)).model() for source in sources]
    return mix(models, FORM_MIXTURE)


def form_lexicon(lexicon: Lexicon) -> Lexicon:
    """Return ``lexicon`` with the letter A only as EY: a spelled A is never reduced."""
    entries = {word: lexicon.pronunciations(word) for word in lexicon.words()}
    return Lexicon({**entries, "A": (("EY",),)})


def build(
    data: Path, out: Path, *, words: int, order: int, ngrams: int, form_prior: float, left_out: frozenset[str]
) -> Iterator[str]:
    """Build the graph and yield a line of progress at every step."""
    yield "reading the text"
    sentences = read_text(data)
    spoken = read_transcripts(data / "librispeech-train", left_out)
    forms = read_transcripts(data / "an4-train", left_out)
    extra = sorted({word for transcript in (*spoken, *forms) for word in transcript} | set(LETTERS))
    yield f"estimating the prose model from {len(sentences)} sentences"
    prose = prose_model(sentences, words, extra, order, ngrams)
    del sentences
    yield f"prose n-grams by order: {prose.counts}"
    form = form_model(forms, [word for word in extra if len(word) > 2], order)
    yield f"form n-grams by order: {form.counts}"
    builder = LexiconBuilder()
    lexicon = builder.build(prose.vocabulary.words[3:])
    form_words = builder.build(form.vocabulary.words[3:])
    if missing := [word for word in form.vocabulary.words[3:] if word not in form_words]:
        raise LexiconError(f"no pronunciation for {missing}")
    yield f"pronunciations: {builder.sources}"
    domains = [
        Domain("prose", prose, lexicon, 1.0 - form_prior),
        Domain("form", form, form_lexicon(form_words), form_prior),
    ]
    manifest = {
        "name": out.name,
        "language": "en",
        "domains": [
            {
                "name": item.name,
                "prior": item.prior,
                "words": len(item.model.vocabulary) - 3,
                "ngrams": item.model.counts,
            }
            for item in domains
        ],
        "attribution": ATTRIBUTION,
    }
    graph_file.write(out, sections(domains), manifest)
    yield f"wrote {(out / graph_file.GRAPH_NAME).stat().st_size / 1e6:.1f} MB to {out}"


def main(argv: list[str] | None = None) -> None:
    """Command line of the builder."""
    parser = argparse.ArgumentParser(description="Build the English decoding graph from the corpora in DEEPTHIN_DATA.")
    parser.add_argument("out", type=Path, help="folder to write; its name becomes the graph's")
    parser.add_argument("--words", type=int, default=100_000, help="commonest words of the text to take")
    parser.add_argument("--order", type=int, default=4, help="longest n-grams")
    parser.add_argument("--ngrams", type=int, default=5_000_000, help="n-grams of two words or more to keep")
    parser.add_argument("--form-prior", type=float, default=0.5, help="probability of a form-filling sentence")
    parser.add_argument(
        "--leave-out", type=Path, help="file of utterance names whose transcripts are not used, for tuning on them"
    )
    options = parser.parse_args(argv)
    data = os.environ.get("DEEPTHIN_DATA")
    if not data:
        parser.error("set DEEPTHIN_DATA to the folder of the corpora")
    left_out = frozenset(options.leave_out.read_text(encoding="utf-8").split()) if options.leave_out else frozenset()
    start = time.monotonic()
    for line in build(
        Path(data),
        options.out,
        words=options.words,
        order=options.order,
        ngrams=options.ngrams,
        form_prior=options.form_prior,
        left_out=left_out,
    ):
        print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True)


if __name__ == "__main__":
    main()
