"""The beam search against trying every path, and how it behaves at the edges."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.decoding import DecodeError, Graph, GraphDecoder, GreedyDecoder
from tests.decoding import graphs
from tests.decoding.graphs import UNITS, log_softmax, spoken


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write(tmp_path_factory.mktemp("graphs") / "one")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write(tmp_path_factory.mktemp("graphs") / "two", *two_domains())


def two_domains() -> tuple[graphs.Domain, graphs.Domain]:
    entries = {"AT": (("AA", "T"),), "TAB": (("T", "AA", "B"),), "BA": (("B", "AA"),)}
    text = [["AT", "TAB"], ["TAB"], ["BA", "AT"], ["AT"], ["TAB", "TAB"]]
    return (
        graphs.domain(prior=0.7),
        graphs.domain(graphs.model(text, tuple(entries), order=2), entries, prior=0.3, name="other"),
    )


def random_log_probs(seed: int, frames: int, sharpness: float) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, sharpness, (frames, len(UNITS))).astype(np.float32)
    return log_softmax(values)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(0, 5),
    sharpness=st.floats(0.1, 4.0),
    lm_weight=st.floats(0.0, 2.0),
    word_score=st.floats(-2.0, 3.0),
    both=st.booleans(),
)
def test_finds_what_trying_every_path_finds(
    folder: Path, two: Path, seed: int, frames: int, sharpness: float, lm_weight: float, word_score: float, both: bool
) -> None:
    log_probs = random_log_probs(seed, frames, sharpness)
    domains = two_domains() if both else (graphs.domain(),)
    scores = graphs.exhaustive(log_probs, domains, lm_weight=lm_weight, word_score=word_score)
    found = graphs.decoder(two if both else folder, lm_weight=lm_weight, word_score=word_score).decode(log_probs)
    best = max(scores.values())
    assert found.score == pytest.approx(best, abs=2e-3)
    assert scores[tuple(word.text for word in found.words)] == pytest.approx(best, abs=2e-3)


def test_clear_speech_gives_its_words(folder: Path) -> None:
    found = graphs.decoder(folder).decode(spoken(["AA", "T", "AA", "B", "AA", "T"]))
    assert found.text == "A TAB AT"
    frames = [(word.start_frame, word.end_frame) for word in found.words]
    assert frames == [(1, 1), (3, 7), (9, 11)]
    assert all(0.9 < word.confidence <= 1 for word in found.words)


def test_a_unit_repeats_only_after_a_blank(folder: Path) -> None:
    decoder = graphs.decoder(folder, lm_weight=0.01)
    doubled = spoken(["AA", "T", "T"])
    assert decoder.decode(doubled).text in ("ATT", "AT AT")
    held = np.delete(doubled, 4, axis=0)  # no blank between the two T
    assert decoder.decode(held).text == "AT"


def test_a_word_may_start_with_the_unit_the_last_one_ended_with(folder: Path) -> None:
    decoder = graphs.decoder(folder, lm_weight=0.01)
    log_probs = spoken(["AA", "T", "T", "AA", "B"])
    assert decoder.decode(log_probs).text in ("AT TAB", "AT TAAB")
    merged = np.delete(log_probs, 4, axis=0)
    assert decoder.decode(merged).text not in ("AT TAB", "AT TAAB")


def test_the_language_model_chooses_among_homophones(folder: Path) -> None:
    decoder = graphs.decoder(folder)
    assert decoder.decode(spoken(["AA", "T", "AA", "B", "AA", "T"])).text.split()[1] == "TAB"
    after_at = decoder.decode(spoken(["T", "AA", "K", "AA", "T", "AA", "T", "AA", "B"])).text.split()
    assert after_at[-2:] == ["A", "TAAB"]


def test_silence_is_no_words(folder: Path) -> None:
    decoder = graphs.decoder(folder)
    assert decoder.decode(spoken([])).words == ()
    assert decoder.decode(np.repeat(spoken([]), 200, axis=0)).words == ()
    assert decoder.decode(np.zeros((0, len(UNITS)), dtype=np.float32)).words == ()


def test_an_unfinished_word_is_dropped(tmp_path: Path) -> None:
    lm = graphs.model([["TAB"], ["TAB", "TAB"]], ["TAB"], order=2)
    folder = graphs.write(tmp_path / "g", graphs.domain(lm, {"TAB": (("T", "AA", "B"),)}))
    decoder = graphs.decoder(folder, beam=6.0)
    assert decoder.decode(spoken(["T", "AA", "B", "T", "AA"], margin=20.0)).text == "TAB"


def test_impossible_units_do_not_end_the_search(folder: Path) -> None:
    log_probs = np.full((6, len(UNITS)), -np.inf, dtype=np.float32)
    log_probs[:, UNITS.index("B")] = 0.0  # no word is a lone B
    found = graphs.decoder(folder, beam=10.0).decode(log_probs)
    assert np.isfinite(found.score)


def test_skipped_blanks_change_nothing_in_clear_speech(folder: Path) -> None:
    log_probs = np.repeat(spoken(["AA", "T", "AA", "B"]), 2, axis=0)
    plain, skipping = graphs.decoder(folder), graphs.decoder(folder, blank_skip=0.99)
    assert skipping.decode(log_probs).text == plain.decode(log_probs).text
    assert skipping.decode(log_probs).score == pytest.approx(plain.decode(log_probs).score, abs=1e-3)


def test_priors_and_scales_weigh_the_units(folder: Path) -> None:
    log_probs = random_log_probs(3, 6, 2.0)
    priors = np.log(np.array([0.5, 0.2, 0.1, 0.1, 0.1], dtype=np.float32))
    graph = Graph.load(folder)
    one = GraphDecoder(graph, UNITS, log_priors=priors, acoustic_scale=0.5, beam=1e4, max_active=10**6)
    other = GraphDecoder(graph, UNITS, beam=1e4, max_active=10**6)
    shifted = 0.5 * (log_probs - priors)
    top = shifted.max()  # a constant a frame changes no order
    assert one.decode(log_probs).text == other.decode(shifted - top).text
    assert one.decode(log_probs).score == pytest.approx(other.decode(shifted - top).score + top * 6, abs=1e-3)


def test_pruning_only_loses_score(folder: Path) -> None:
    log_probs = random_log_probs(5, 30, 2.0)
    best = graphs.decoder(folder).decode(log_probs).score
    for options in ({"beam": 3.0}, {"max_active": 3}, {"beam": 1e-3, "max_active": 1}):
        assert graphs.decoder(folder, **options).decode(log_probs).score <= best + 1e-3


def test_pieces_give_what_the_whole_gives(folder: Path) -> None:
    decoder = graphs.decoder(folder, beam=14.0)
    log_probs = random_log_probs(11, 60, 2.5)
    stream = decoder.stream()
    assert stream.partial().words == ()
    for start in range(0, 60, 7):
        stream.advance(log_probs[start : start + 7])
        stream.partial()
    assert stream.finish() == decoder.decode(log_probs)


def test_long_audio_keeps_its_precision(folder: Path) -> None:
    decoder = graphs.decoder(folder, lm_weight=0.0, beam=12.0)
    log_probs = np.tile(spoken(["AA", "T", "AA", "B"], margin=3.0), (4000, 1))
    found = decoder.decode(log_probs)
    assert found.score == pytest.approx(log_probs.max(axis=1).sum(dtype=np.float64), rel=1e-6)
    assert [word.start_frame for word in found.words] == [9 * n + at for n in range(4000) for at in (1, 3)]


def test_many_threads_share_one_decoder(folder: Path) -> None:
    decoder = graphs.decoder(folder, beam=10.0)
    inputs = [random_log_probs(seed, 80, 2.0) for seed in range(24)]
    expected = [decoder.decode(log_probs) for log_probs in inputs]
    found: list[object] = [None] * len(inputs)

    def work(first: int) -> None:
        for place in range(first, len(inputs), 6):
            found[place] = decoder.decode(inputs[place])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_two_domains_do_not_mix(two: Path) -> None:
    decoder = graphs.decoder(two)
    assert (
        decoder.decode(spoken(["B", "AA", "T", "AA", "K"])).text != "BA TACK"
    )  # BA is of one domain, TACK of the other
    assert decoder.decode(spoken(["B", "AA", "AA", "T"])).text == "BA AT"


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (np.zeros((3, 4), dtype=np.float32), "shape"),
        (np.zeros(5, dtype=np.float32), "shape"),
        (np.full((2, 5), np.nan, dtype=np.float32), "not a number"),
        (np.full((2, 5), 0.5, dtype=np.float32), "above 0"),
    ],
)
def test_refuses_what_is_no_log_probability(folder: Path, log_probs: np.ndarray, message: str) -> None:
    decoder = graphs.decoder(folder)
    with pytest.raises(DecodeError, match=message):
        decoder.decode(log_probs)
    assert decoder.decode(spoken(["AA"])).text == "A"  # and goes on


@pytest.mark.parametrize("options", [{"beam": 0.0}, {"max_active": 0}, {"acoustic_scale": 0.0}, {"blank_skip": 2.0}])
def test_refuses_options_without_sense(folder: Path, options: dict[str, float]) -> None:
    with pytest.raises(DecodeError):
        graphs.decoder(folder, **options)


def test_refuses_other_units(folder: Path) -> None:
    with pytest.raises(DecodeError, match="units"):
        GraphDecoder.load(folder, ("<blank>", "B", "AA", "K", "T"))


def test_greedy_decoder_collapses_units() -> None:
    decoder = GreedyDecoder(UNITS)
    log_probs = np.repeat(spoken(["AA", "AA", "T"]), 2, axis=0)
    found = decoder.decode(log_probs)
    assert found.text == "AA AA T"
    assert [(word.start_frame, word.end_frame) for word in found.words] == [(2, 3), (6, 7), (10, 11)]
    assert decoder.decode(log_probs[:0]).words == ()
    with pytest.raises(DecodeError):
        decoder.decode(log_probs[:, :3])
