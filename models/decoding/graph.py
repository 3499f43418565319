"""Packing lexicons and language models into the sections of a graph file."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import GraphError
from .graph_file import pack, ranked_bits
from .lexicon import UNITS, Lexicon
from .ngram import END_ID, SPECIALS, START_ID, FloatArray, IntArray, NgramModel
from .quantisation import quantise

MOST_ORDERS = 5


@dataclass(frozen=True)
class Domain:
    """One kind of speech: sentences are wholly of one domain, so its n-gram statistics stay sharp.

    Attributes:
        name: for the manifest.
        model: language model; its vocabulary numbers the domain's words.
        lexicon: pronunciations; words of the model without any are never recognised.
        prior: probability that a sentence is of this domain; the domains' priors need not sum to one.
    """

    name: str
    model: NgramModel
    lexicon: Lexicon
    prior: float


@dataclass(frozen=True)
class Tree:
    """Lexicon trees of all domains, nodes in breadth-first order, the roots first.

    Attributes:
        unit: acoustic unit of each node, [nodes]; 0 at roots.
        child: first child of each node, [nodes + 1].
        entry: first entry of each node in ``said``, [nodes + 1].
        said: words that end at each node, [entries].
        ahead: largest unigram log probability of the words at or below each node, [nodes].
    """

    unit: IntArray
    child: IntArray
    entry: IntArray
    said: IntArray
    ahead: FloatArray


def grow_tree(domains: Sequence[Domain], units: Sequence[str] = UNITS) -> Tree:
    """Build the lexicon trees of all domains."""
    number = {unit: index for index, unit in enumerate(units)}
    children: list[dict[int, int]] = [{} for _ in domains]  # per node in order of creation: unit -> node
    words: list[list[int]] = [[] for _ in domains]
    first = 0
    for root, domain in enumerate(domains):
        for word, name in enumerate(domain.model.vocabulary.words):
            for said in domain.lexicon.pronunciations(name):
                node = root
                for phone in said:
                    below = children[node].get(number[phone])
                    if below is None:
                        below = children[node][number[phone]] = len(children)
                        children.append({})
                        words.append([])
                    node = below
                words[node].append(first + word)
        first += len(domain.model.vocabulary)
    order = list(range(len(domains)))
    unit, child = [0] * len(domains), []
    for node in order:  # grows while it is walked
        child.append(len(order))
        for symbol, below in sorted(children[node].items()):
            order.append(below)
            unit.append(symbol)
    child.append(len(order))
    unigrams = np.concatenate([domain.model.levels[0].logprob for domain in domains])
    ahead = np.full(len(order), -np.inf)
    for place in range(len(order) - 1, -1, -1):
        values = [unigrams[words[order[place]]], ahead[child[place] : child[place + 1]]]
        ahead[place] = np.concatenate(values).max(initial=-np.inf)
    entry = np.concatenate([[0], np.cumsum([len(words[node]) for node in order])])
    entries = np.array([word for node in order for word in sorted(words[node])], dtype=np.int64)
    return Tree(np.array(unit), np.array(child), entry, entries, ahead)


def _ngram_sections(domains: Sequence[Domain]) -> dict[str, bytes]:
    """All domains' n-grams as one table: words and parents of a later domain come after those of the earlier."""
    sections: dict[str, bytes] = {}
    orders = max(domain.model.order for domain in domains)
    for order in range(1, orders + 1):
        levels = [domain.model.levels[order - 1] if order <= domain.model.order else None for domain in domains]
        logprob = np.concatenate([level.logprob for level in levels if level])
        tail = f".{order}"
        if order == 1:
            sections["prob" + tail] = logprob.astype("<f4").tobytes()
        else:
            starts = np.cumsum([0] + [len(domain.model.vocabulary) for domain in domains])
            word = np.concatenate([level.word + start for level, start in zip(levels, starts, strict=False) if level])
            codes, book = quantise(logprob)
            sections["word" + tail] = pack(word)
            sections["prob" + tail] = codes.tobytes()
            sections["probs" + tail] = book.astype("<f4").tobytes()
        if order == orders:
            break
        children = []
        for domain, level in zip(domains, levels, strict=True):
            if level:
                parents = domain.model.levels[order].parent if order < domain.model.order else np.zeros(0, np.int64)
                children.append(np.bincount(parents, minlength=len(level)))
        counts = np.concatenate(children)
        inner = counts > 0
        bits, ranks = ranked_bits(inner)
        sections["inner" + tail], sections["rank" + tail] = bits, ranks
        sections["begin" + tail] = pack(np.concatenate([[0], np.cumsum(counts[inner])]))
        codes, book = quantise(np.concatenate([level.backoff for level in levels if level])[inner])
        sections["back" + tail] = codes.tobytes()
        sections["backs" + tail] = book.astype("<f4").tobytes()
    return sections


def sections(domains: Sequence[Domain], units: Sequence[str] = UNITS) -> dict[str, bytes]:
    """Return the sections of a graph file.

    Back-off weights of n-grams that begin no longer one are taken as 1, as estimation gives them.

    Raises:
        GraphError: there is no domain, a model has too many orders, or no word has a pronunciation.
    """
    if not domains or max(domain.model.order for domain in domains) > MOST_ORDERS:
        raise GraphError(f"a graph needs at least one domain, of n-grams of at most {MOST_ORDERS} words")
    tree = grow_tree(domains, units)
    if any(tree.child[root] == tree.child[root + 1] for root in range(len(domains))):
        raise GraphError("a domain has no word with a pronunciation")
    vocabulary = [word for domain in domains for word in domain.model.vocabulary.words]
    names = [b"" if word in SPECIALS else word.encode() for word in vocabulary]
    shape = struct.pack("<4I", len(units), len(vocabulary), max(d.model.order for d in domains), len(domains))
    kinds, first = b"", 0
    for domain in domains:
        kinds += struct.pack("<3If", first, first + START_ID, first + END_ID, math.log(domain.prior))
        first += len(domain.model.vocabulary)
    codes, book = quantise(tree.ahead)
    return {
        "shape": shape,
        "domain": kinds,
        "units": "\n".join(units).encode(),
        "name.at": pack(np.concatenate([[0], np.cumsum([len(name) for name in names])])),
        "name": b"".join(names),
        "unit": tree.unit.astype(np.uint8).tobytes(),
        "ahead": codes.tobytes(),
        "aheads": book.astype("<f4").tobytes(),
        "child": pack(tree.child),
        "entry": pack(tree.entry),
        "said": pack(tree.said),
        **_ngram_sections(domains),
    }
