"""The bundled models keep the recogniser's contract on real networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.audio import Audio, decode
from models.compression.transport import pack
from models.evaluation import read_corpus
from models.package import GRAPH_FILE
from models.recognisers import Recogniser, load
from models.recognisers import phones as module
from models.store import BUNDLED, ModelStore
from tests.support import RATE, recording

STORE = ModelStore([BUNDLED])
# Fused kernels sum in an order that depends on the size of the batch.
TOLERANCE = 2e-3

pytestmark = pytest.mark.skipif(not STORE.names(), reason="no model is bundled")


@pytest.fixture(scope="module", params=STORE.names() or ["none"])
def recogniser(request: pytest.FixtureRequest) -> Recogniser:
    return load(STORE.load(request.param).path)


def test_bytes_are_what_the_file_can_hold(recogniser: Recogniser) -> None:
    size = (recogniser.package.path / GRAPH_FILE).stat().st_size
    assert recogniser.manifest.weights.disk_bytes <= size <= recogniser.manifest.weights.disk_bytes + 200_000


def test_the_bitstream_has_the_length_that_the_manifest_says(recogniser: Recogniser) -> None:
    package = recogniser.package
    hint = f"run `python -m models.training.record {package.manifest.name} --corpora`"
    assert package.manifest.weights.transport_bytes == len(pack(package.path, {})), hint


def test_batch_equals_single(recogniser: Recogniser) -> None:
    features = [recogniser.features(recording(seconds, seed)) for seed, seconds in enumerate((0.4, 2.0, 1.3, 0.05))]
    for frames, together in zip(features, recogniser.infer(features), strict=True):
        [alone] = recogniser.infer([frames])
        np.testing.assert_allclose(together, alone, atol=TOLERANCE)


def test_chunks_leave_no_trace(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    features = recogniser.features(recording(4.0))
    [whole] = recogniser.infer([features])
    monkeypatch.setattr(module, "_CHUNK_FRAMES", 60)
    [pieces] = recogniser.infer([features])
    np.testing.assert_allclose(pieces, whole, atol=TOLERANCE)


@pytest.mark.parametrize("level", [0.0, 3e-5, 1e-3], ids=["digital silence", "dither", "quiet room"])
def test_nothing_said_is_empty_text(recogniser: Recogniser, level: float) -> None:
    noise = level * np.random.default_rng(1).standard_normal(5 * RATE)
    [transcript] = recogniser.transcribe([Audio(noise.astype(np.float32), RATE)])
    assert transcript.text == ""


def test_batch_of_real_speech_equals_single(recogniser: Recogniser, corpora: Path) -> None:
    audios = [decode(utterance.path.read_bytes()) for utterance in read_corpus(corpora / "an4-test", 6)]
    together = [transcript.text for transcript in recogniser.transcribe(audios)]
    assert together == [recogniser.transcribe([audio])[0].text for audio in audios]
    assert all(together)
