"""Kneser-Ney estimation, pruning, mixing and ARPA files against slow, independent computations."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decoding import arpa
from models.decoding.errors import LanguageModelError
from models.decoding.kneser_ney import count, discounts, estimate
from models.decoding.mixing import mix
from models.decoding.ngram import END, START, UNKNOWN, NgramModel, Vocabulary
from models.decoding.pruning import cut, kept, losses, prune

Sentences = Sequence[Sequence[str]]

TEXT = [
    line.split()
    for line in (
        "the cat sat on the mat",
        "the cat ran",
        "a dog sat on the cat",
        "the dog ran on and on",
        "on the mat sat a cat",
        "a mat",
        "the dog and the cat sat",
        "and the dog ran",
    )
]
WORDS = sorted({word for sentence in TEXT for word in sentence})

sentences = st.lists(st.lists(st.sampled_from(["a", "b", "c", "d", "zzz"]), max_size=7), min_size=1, max_size=25)


class NaiveKneserNey:
    """The textbook formulas, with dictionaries and one n-gram at a time."""

    def __init__(self, text: Sentences, words: Sequence[str], order: int) -> None:
        known = set(words)
        lines = [[START, *(w if w in known else UNKNOWN for w in line), END] for line in text]
        self.words = [UNKNOWN, END, *words]
        self.order = order
        raw = {
            n: Counter(tuple(line[i : i + n]) for line in lines for i in range(len(line) - n + 1))
            for n in range(1, order + 1)
        }
        self.counts: dict[int, dict[tuple[str, ...], int]] = {order: dict(raw[order])}
        for n in range(order - 1, 0, -1):
            before = defaultdict(set)
            for gram in raw[n + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[n] = {g: raw[n][g] if g[0] == START else len(before[g]) for g in raw[n]}
        self.counts[1][(START,)] = 0

    def discount(self, n: int, value: int) -> float:
        occurring = Counter(self.counts[n].values())
        n1, n2, n3, n4 = (occurring[k] for k in (1, 2, 3, 4))
        if min(n1, n2, n3, n4) > 0:
            y = n1 / (n1 + 2 * n2)
            three = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < d < k for k, d in enumerate(three, start=1)):
                return three[min(value, 3) - 1]
        return (0.5, 1.0, 1.5)[min(value, 3) - 1]

    def probability(self, history: tuple[str, ...], word: str) -> float:
        n = len(history) + 1
        after = {g[-1]: c for g, c in self.counts[n].items() if g[:-1] == history and c > 0}
        shorter = 1 / len(self.words) if n == 1 else self.probability(history[1:], word)
        if not after:
            return shorter
        total = sum(after.values())
        freed = sum(self.discount(n, c) for c in after.values()) / total
        own = (after[word] - self.discount(n, after[word])) / total if word in after else 0.0
        return own + freed * shorter


def trained(text: Sentences, words: Sequence[str], order: int) -> NgramModel:
    vocabulary = Vocabulary(words)
    return estimate(count(vocabulary.encode(text), vocabulary, order)).model()


def sums(model: NgramModel) -> None:
    histories = [(), *((word,) for word in model.vocabulary.words if word != END)]
    histories += [(START, word) for word in model.vocabulary.words[3:]]
    histories += [(a, b) for a in model.vocabulary.words[3:6] for b in model.vocabulary.words[3:]]
    for history in histories:
        distribution = model.distribution(history)
        assert distribution[1] < 1e-90  # <s> is never predicted
        assert distribution.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_matches_the_textbook(order: int) -> None:
    model, naive = trained(TEXT, WORDS, order), NaiveKneserNey(TEXT, WORDS, order)
    for history in [(), ("the",), ("<s>", "the"), ("cat", "sat"), ("dog", "ran", "on"), ("a", "a", "a")]:
        context = history[len(history) - order + 1 :] if order > 1 else ()
        distribution = model.distribution(context)
        for word in naive.words:
            assert distribution[model.vocabulary.id(word)] == pytest.approx(naive.probability(context, word), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(sentences)
def test_matches_the_textbook_on_any_text(text: list[list[str]]) -> None:
    words = ["a", "b", "c", "d"]  # zzz is out of the vocabulary
    model, naive = trained(text, words, 3), NaiveKneserNey(text, words, 3)
    for history in [("a", "b"), (START, "a"), ("zzz", "a")]:
        known = tuple(word if word in model.vocabulary else UNKNOWN for word in history)
        distribution = model.distribution(history)
        for word in naive.words:
            assert distribution[model.vocabulary.id(word)] == pytest.approx(naive.probability(known, word), rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(sentences)
def test_every_distribution_sums_to_one(text: list[list[str]]) -> None:
    sums(trained(text, ["a", "b", "c", "d"], 3))


def test_discounts_come_from_the_counts_of_counts() -> None:
    values = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4])
    y = 8 / 16
    assert discounts(values).tolist() == pytest.approx([0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])
    assert discounts(np.array([1, 1, 5])).tolist() == [0.0, 0.5, 1.0, 1.5]


def test_perplexity_is_over_words_and_sentence_ends() -> None:
    model = trained(TEXT, WORDS, 2)
    total = math.log(model.distribution([START])[model.vocabulary.id("the")])
    total += math.log(model.distribution(["the"])[model.vocabulary.id("dog")])
    total += math.log(model.distribution(["dog"])[model.vocabulary.id(END)])
    assert model.perplexity([["the", "dog"]]) == pytest.approx(math.exp(-total / 3))
    assert model.perplexity([["the", "dog"], ["giraffe"]]) < 100  # unknown words are left out


def test_pruned_models_stay_normalised_and_keep_what_matters() -> None:
    vocabulary = Vocabulary(WORDS)
    full = estimate(count(vocabulary.encode(TEXT), vocabulary, 3))
    sizes = []
    for most in (1000, 30, 12, 0):
        model = prune(full, most).model()
        assert sum(model.counts[1:]) <= most
        assert model.counts[0] == len(vocabulary)
        sums(model)
        sizes.append(model.perplexity(TEXT))
    assert sizes == sorted(sizes)
    assert sizes[0] == pytest.approx(full.model().perplexity(TEXT))


def test_pruning_loss_is_the_divergence_of_dropping_one_ngram() -> None:
    vocabulary = Vocabulary(WORDS)
    counts = count(vocabulary.encode(TEXT), vocabulary, 2)
    full = estimate(counts)
    predicted = losses(full)[1]
    before = full.model()
    tokens = sum(len(line) + 1 for line in TEXT)
    for dropped in range(0, len(predicted), 5):
        keep = [np.ones(len(level), dtype=np.bool_) for level in counts.levels]
        keep[1][dropped] = False
        after = cut(full, keep).model()
        history = vocabulary.words[counts.levels[1].parent[dropped]]
        share = counts.levels[0].count[counts.levels[1].parent[dropped]] / tokens
        p, q = before.distribution([history]), after.distribution([history])
        seen = p > 1e-90
        assert predicted[dropped] == pytest.approx(share * (p[seen] * np.log(p[seen] / q[seen])).sum(), rel=1e-6)


def test_kept_ngrams_keep_their_histories() -> None:
    vocabulary = Vocabulary(WORDS)
    counts = count(vocabulary.encode(TEXT), vocabulary, 3)
    scores = [np.full(len(level), -1.0) for level in counts.levels]
    scores[0][:] = np.inf
    scores[2][4] = 1.0
    masks = kept(counts, scores, 0.0)
    assert masks[1].nonzero()[0].tolist() == [counts.levels[2].parent[4]]


def test_a_mixture_is_the_weighted_sum() -> None:
    vocabulary = Vocabulary(WORDS)
    models = [
        estimate(count(vocabulary.encode(text), vocabulary, order)).model()
        for text, order in ((TEXT[:4], 3), (TEXT[4:], 2), (TEXT[2:6], 3))
    ]
    weights = (0.5, 0.2, 0.3)
    mixed = mix(models, weights)
    sums(mixed)
    for sentence in (["the", "cat", "sat"], ["a", "dog"]):
        stream = vocabulary.encode([sentence])
        expected = np.log(sum(w * np.exp(m.score(stream)) for w, m in zip(weights, models, strict=True)))
        # Exact for stored n-grams: here the first bigram and the trigrams after it.
        found = mixed.nodes(stream)
        stored = (found[2] >= 0) | ((found[1] >= 0) & (np.arange(len(stream)) == 1))
        assert stored.sum() >= 2
        assert mixed.score(stream)[stored] == pytest.approx(expected[stored], rel=1e-9)


def test_mixing_refuses_what_it_cannot_do() -> None:
    with pytest.raises(LanguageModelError, match="one vocabulary"):
        mix([trained(TEXT, WORDS, 2), trained(TEXT, WORDS[:3], 2)], (0.5, 0.5))


def test_arpa_round_trip(tmp_path: Path) -> None:
    vocabulary = Vocabulary(WORDS)
    model = prune(estimate(count(vocabulary.encode(TEXT), vocabulary, 3)), 40).model()
    arpa.write(model, tmp_path / "lm.arpa")
    again = arpa.read(tmp_path / "lm.arpa")
    assert again.counts == model.counts
    assert again.perplexity(TEXT) == pytest.approx(model.perplexity(TEXT), rel=1e-5)


def test_reads_a_foreign_arpa_file(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(
        "\\data\\\nngram 1=5\nngram 2=2\n\n\\1-grams:\n-2.0\t<unk>\n-99\t<s>\t-0.3\n-0.5\t</s>\n-0.6\tyes\t-0.2\n"
        "-0.9\tno\n\n\\2-grams:\n-0.1\t<s> yes\n-0.4\tyes </s>\n\n\\end\\\n"
    )
    model = arpa.read(path)
    score = model.score(model.vocabulary.encode([["yes"], ["no"]])) / math.log(10)
    assert score[[1, 2, 4, 5]].tolist() == pytest.approx([-0.1, -0.4, -0.3 - 0.9, -0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\\data\\\n\\1-grams:\n-1\t<s>\n", "cut off"),
        ("\\data\\\n\\1-grams:\nx\t<s>\n\\end\\\n", "malformed"),
        ("\\data\\\n\\1-grams:\n-1\ta\n\\end\\\n", "every word once"),
        ("\\1-grams:\n-1\t<s>\n-1\t</s>\n-1\t<unk>\n\\2-grams:\n-1\ta <s>\n\\end\\\n", "no 2-gram"),
    ],
)
def test_arpa_errors(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "lm.arpa").write_text(text)
    with pytest.raises(LanguageModelError, match=message):
        arpa.read(tmp_path / "lm.arpa")
