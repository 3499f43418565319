"""The recogniser's contract: context, batches, chunks, states, silence, errors."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.audio import Audio
from models.errors import DecoderUnavailableError, GraphMismatchError, InferenceError, PackageError
from models.features import FrontEndError
from models.package import ModelPackage
from models.recognisers import Recogniser, load
from models.recognisers import phones as module
from tests.support import LEFT, RATE, RIGHT, SUBSAMPLING, UNITS, recording, tiny_graph, tiny_manifest

MODELS = ("tiny-dense", "tiny-recurrent")


@pytest.fixture(params=MODELS)
def recogniser(request: pytest.FixtureRequest, home: Path) -> Recogniser:
    return load(home / "models" / request.param)


def test_output_is_that_of_the_network_on_hand_padded_features(home: Path) -> None:
    recogniser = load(home / "models" / "tiny-dense")
    features = recogniser.features(recording(1.0))
    padded = np.concatenate([features[:1].repeat(LEFT, 0), features, features[-1:].repeat(RIGHT, 0)])
    session = ort.InferenceSession(tiny_graph(recurrent=False), providers=["CPUExecutionProvider"])
    [expected] = session.run(["log_probs"], {"features": padded[None]})
    [actual] = recogniser.infer([features])
    assert actual.shape == ((len(features) - 1) // SUBSAMPLING + 1, len(UNITS))
    np.testing.assert_allclose(actual, expected[0], atol=1e-4)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0.0, 2.5), st.integers(0, 5)), min_size=2, max_size=6))
def test_batched_recording_equals_the_single_one(recogniser: Recogniser, sizes: list[tuple[float, int]]) -> None:
    features = [recogniser.features(recording(seconds, seed)) for seconds, seed in sizes]
    batch = recogniser.infer(features)
    for frames, together in zip(features, batch, strict=True):
        [alone] = recogniser.infer([frames])
        assert together.shape == alone.shape
        np.testing.assert_allclose(together, alone, atol=1e-4)


def test_batched_transcripts_equal_single_ones(recogniser: Recogniser) -> None:
    audios = [recording(seconds, seed) for seed, seconds in enumerate((0.3, 2.0, 1.1, 0.02))]
    batch = recogniser.transcribe(audios)
    assert [item.text for item in batch] == [recogniser.transcribe([audio])[0].text for audio in audios]
    assert len({item.text for item in batch}) > 1


@pytest.mark.parametrize("chunk", [1, 7, 30, 100])
def test_long_recordings_go_through_in_chunks_without_a_trace(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    features = [recogniser.features(recording(seconds, seed)) for seed, seconds in enumerate((3.0, 1.7))]
    whole = recogniser.infer(features)
    monkeypatch.setattr(module, "_CHUNK_FRAMES", chunk)
    for expected, actual in zip(whole, recogniser.infer(features), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_state_matters_and_starts_at_zero(home: Path) -> None:
    recogniser = load(home / "models" / "tiny-recurrent")
    features = recogniser.features(recording(1.0))
    [first] = recogniser.infer([features])
    recogniser.infer([recogniser.features(recording(2.0, seed=3))])
    [again] = recogniser.infer([features])
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0),
        np.zeros(RATE),
        np.full(RATE, 0.25),
        np.full(5, 1.0),
        3e-5 * np.random.default_rng(0).standard_normal(3 * RATE),
    ],
    ids=["nothing", "zeros", "offset", "five samples", "dither"],
)
def test_silence_gives_empty_text(recogniser: Recogniser, samples: np.ndarray) -> None:
    silence = Audio(samples.astype(np.float32), RATE)
    [transcript] = recogniser.transcribe([silence])
    assert transcript.text == ""
    assert transcript.words == ()
    assert transcript.duration_seconds == len(samples) / RATE


def test_silence_in_a_batch_leaves_the_others_alone(recogniser: Recogniser) -> None:
    speech, silence = recording(1.0), Audio(np.zeros(2 * RATE, np.float32), RATE)
    together = recogniser.transcribe([silence, speech, silence])
    assert together[1] == recogniser.transcribe([speech])[0]
    assert together[0].text == together[2].text == ""


def test_empty_batch_is_empty(recogniser: Recogniser) -> None:
    assert recogniser.transcribe([]) == []


def test_words_are_ordered_inside_the_recording(recogniser: Recogniser) -> None:
    [transcript] = recogniser.transcribe([recording(1.5)])
    assert transcript.words
    assert transcript.text == " ".join(word.text for word in transcript.words) == transcript.text.lower()
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= transcript.duration_seconds
    assert all(0 <= word.confidence <= 1 for word in transcript.words)
    assert transcript.stages.features > 0
    assert transcript.stages.infer > 0
    assert transcript.stages.postprocess > 0


def test_many_threads_share_one_recogniser(recogniser: Recogniser) -> None:
    audios = [recording(0.5 + 0.2 * seed, seed) for seed in range(8)]
    expected = [recogniser.transcribe([audio])[0].text for audio in audios]
    results: dict[int, str] = {}

    def work(index: int) -> None:
        for _ in range(3):
            results[index] = recogniser.transcribe([audios[index]])[0].text

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(audios))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[index] for index in range(len(audios))] == expected


def test_wrong_sample_rate_is_refused(recogniser: Recogniser) -> None:
    with pytest.raises(FrontEndError, match="8000 Hz"):
        recogniser.transcribe([Audio(recording(1.0).samples, 8000)])


def test_decoders_that_the_model_lacks_are_refused(home: Path) -> None:
    folder = home / "models" / "tiny-dense"
    with pytest.raises(DecoderUnavailableError, match="no decoder 'graph'"):
        load(folder, decoder="graph")
    recogniser = load(folder)
    assert recogniser.default_decoder == "greedy"
    with pytest.raises(DecoderUnavailableError, match="unknown decoder 'magic'"):
        recogniser.transcribe([recording(0.5)], decoder="magic")


def test_missing_decoding_graph_is_a_package_error(tmp_path: Path, graphs: dict[bool, bytes]) -> None:
    ModelPackage.save(tmp_path, tiny_manifest("tiny", graph="nowhere"), graphs[False])
    with pytest.raises(PackageError, match="'nowhere'"):
        load(tmp_path / "tiny")
    # Greedy decoding needs no graph.
    assert load(tmp_path / "tiny", decoder="greedy").transcribe([recording(1.0)])[0].text


@pytest.mark.parametrize(
    ("recurrent", "changes", "complaint"),
    [
        (True, {"states": []}, "takes"),
        (True, {"states": [{"input": "state", "output": "state_out", "shape": [3]}]}, "state"),
        (True, {"states": [{"input": "state", "output": "gone", "shape": [16]}]}, "gives"),
        (False, {"states": [{"input": "state", "output": "state_out", "shape": [16]}]}, "takes"),
        (False, {"units": UNITS[:-1]}, "log_probs"),
        (False, {"front_end": {"bins": 23}}, "features"),
    ],
)
def test_network_at_odds_with_its_manifest_is_refused(
    tmp_path: Path, graphs: dict[bool, bytes], recurrent: bool, changes: dict[str, object], complaint: str
) -> None:
    manifest = tiny_manifest("tiny", recurrent=recurrent, **changes)
    ModelPackage.save(tmp_path, manifest, graphs[recurrent])
    with pytest.raises(GraphMismatchError, match=complaint):
        load(tmp_path / "tiny")


@pytest.mark.parametrize("graph", [b"", b"not a network", tiny_graph(recurrent=False)[:500]])
def test_file_that_is_no_network_is_refused(tmp_path: Path, graph: bytes) -> None:
    ModelPackage.save(tmp_path, tiny_manifest("tiny"), graph)
    with pytest.raises(GraphMismatchError):
        load(tmp_path / "tiny")


def test_network_that_gives_nan_is_an_error_not_a_text(home: Path) -> None:
    recogniser = load(home / "models" / "tiny-dense")
    features = recogniser.features(recording(0.5))
    features[:] = np.nan
    with pytest.raises(InferenceError):
        recogniser.infer([features])
