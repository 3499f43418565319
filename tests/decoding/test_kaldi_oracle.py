"""The search against Kaldi's: one lexicon and language model, composed as transducers and searched by kaldi-decoder."""

import math
from pathlib import Path

import numpy as np
import pytest

from models.decoding.ngram import END_ID, START_ID, NgramModel
from tests.decoding import graphs
from tests.decoding.graphs import ENTRIES, UNITS, log_softmax, spoken

kaldifst = pytest.importorskip("kaldifst", reason="kaldifst is not installed: pip install 'deepthin[dev]'")
kaldi_decoder = pytest.importorskip(
    "kaldi_decoder", reason="kaldi-decoder is not installed: pip install 'deepthin[dev]'"
)

DISAMBIGUATION = 8  # more than any pronunciation is shared


def compile_fst(lines: list[str], final: dict[int, float]) -> object:
    finals = [f"{state} {cost!r}" for state, cost in final.items()]
    return kaldifst.compile(s="\n".join([*lines, *finals]), acceptor=False)


def grammar(model: NgramModel, back: int) -> object:
    """G: a state for every history; back-off arcs read ``back`` and write nothing."""
    state: dict[tuple[int, ...], int] = {}

    def number(history: tuple[int, ...]) -> int:
        return state.setdefault(history, len(state))

    grams: list[list[tuple[int, ...]]] = []
    before: list[tuple[int, ...]] = [()]
    for level in model.levels:
        before = [(*before[parent], int(word)) for parent, word in zip(level.parent, level.word, strict=True)]
        grams.append(before)
    contexts = {()} | {gram[:-1] for level in grams[1:] for gram in level}
    number((START_ID,))  # state 0 is the start
    lines: list[str] = []
    final: dict[int, float] = {}
    for order, level in enumerate(model.levels, start=1):
        for gram, logprob, backoff in zip(grams[order - 1], level.logprob, level.backoff, strict=True):
            history, word = gram[:-1], gram[-1]
            if word == END_ID:
                final[number(history)] = -float(logprob)
            elif word > END_ID:
                after = gram
                while after not in contexts:
                    after = after[1:]
                lines.append(f"{number(history)} {number(after)} {word} {word} {-float(logprob)!r}")
            if gram in contexts:
                shorter = gram[1:]
                while shorter not in contexts:
                    shorter = shorter[1:]
                lines.append(f"{number(gram)} {number(shorter)} {back} 0 {-float(backoff)!r}")
    lines.sort(key=lambda line: int(line.split()[0]) != 0)  # the first line's state is the start
    return compile_fst(lines, final)


def lexicon(model: NgramModel, back: int) -> object:
    """L: units are 1 + their column as in the decoder's input; a disambiguation symbol ends every pronunciation."""
    lines = [f"0 0 {len(UNITS) + 1} {back} 0.0"]
    states = 1
    for place, (word, variants) in enumerate(ENTRIES.items()):
        for turn, said in enumerate(variants):
            symbols = [UNITS.index(phone) + 1 for phone in said]
            symbols.append(len(UNITS) + 2 + place * DISAMBIGUATION + turn)
            at = 0
            for step, symbol in enumerate(symbols):
                to = 0 if step + 1 == len(symbols) else states
                states += to != 0
                lines.append(f"{at} {to} {symbol} {model.vocabulary.id(word) if step == 0 else 0} 0.0")
                at = to
    return compile_fst(lines, {0: 0.0})


def topology(extra: int) -> object:
    """CTC: state u has said unit u last; 0 is after a blank. Disambiguation symbols pass without a frame."""
    lines = ["0 0 1 0 0.0"]
    for unit in range(1, len(UNITS)):
        lines += [f"0 {unit} {unit + 1} {unit + 1} 0.0", f"{unit} {unit} {unit + 1} 0 0.0", f"{unit} 0 1 0 0.0"]
        lines += [f"{unit} {other} {other + 1} {other + 1} 0.0" for other in range(1, len(UNITS)) if other != unit]
    for state in range(len(UNITS)):
        lines += [f"{state} {state} 0 {symbol} 0.0" for symbol in range(len(UNITS) + 1, len(UNITS) + 1 + extra)]
    return compile_fst(lines, dict.fromkeys(range(len(UNITS)), 0.0))


def decoding_graph(model: NgramModel) -> object:
    back = len(model.vocabulary)
    spelled, words = lexicon(model, back), grammar(model, back)
    kaldifst.arcsort(spelled, sort_type="olabel")
    kaldifst.arcsort(words, sort_type="ilabel")
    spoken_words = kaldifst.compose(spelled, words)
    kaldifst.determinize_star(spoken_words, use_log=True)
    frames = topology(1 + len(ENTRIES) * DISAMBIGUATION)
    kaldifst.arcsort(frames, sort_type="olabel")
    kaldifst.arcsort(spoken_words, sort_type="ilabel")
    return kaldifst.compose(frames, spoken_words)


def kaldi_best(graph: object, log_probs: np.ndarray) -> tuple[list[int], float]:
    options = kaldi_decoder.FasterDecoderOptions(max_active=100_000, beam=1000.0)
    decoder = kaldi_decoder.FasterDecoder(graph, options)
    decoder.decode(kaldi_decoder.DecodableCtc(log_probs))
    assert decoder.reached_final()
    found, path = decoder.get_best_path()
    assert found
    _, _, words, cost = kaldifst.get_linear_symbol_sequence(path)
    return words, -(cost.value1 + cost.value2)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_finds_the_words_and_the_score_that_kaldi_finds(tmp_path: Path, order: int) -> None:
    model = graphs.model(order=order)
    decoder = graphs.decoder(graphs.write(tmp_path / "g", graphs.domain(model)))
    oracle = decoding_graph(model)
    random = np.random.default_rng(order)
    inputs = [spoken(["AA", "T", "AA", "B", "AA", "T"])]
    inputs += [
        log_softmax(random.normal(0, sharpness, (frames, len(UNITS))).astype(np.float32))
        for frames, sharpness in [(3, 1.0), (10, 2.0), (25, 3.0), (40, 0.5), (60, 4.0), (100, 2.0)]
    ]
    for log_probs in inputs:
        words, score = kaldi_best(oracle, log_probs)
        found = decoder.decode(log_probs)
        assert [model.vocabulary.id(word.text) for word in found.words] == words
        assert math.isclose(found.score, score, abs_tol=0.01)
