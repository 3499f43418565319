"""The family moonshine: generation with a cache, its limits, long recordings, silence; and the real network."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from models.audio import SAMPLE_RATE, Audio, decode
from models.errors import DecoderUnavailableError, GraphMismatchError, ManifestError, PackageError
from models.evaluation import evaluate
from models.features import FrontEndError
from models.package import ModelPackage
from models.recognisers import load
from models.recognisers.generation import without_loop
from models.recognisers.moonshine import MoonshineRecogniser
from models.tokenizer import TokenDecoder
from service.demo.recordings import own_clip
from tests.models import moonshine
from tests.models.moonshine import PIECES, START
from tests.support import recording

HELLO = {START: 3, 3: 4, 4: 5, 5: 6, 6: 7}


def loaded(tmp_path: Path, following: dict[int, int], **settings: float) -> MoonshineRecogniser:
    package = moonshine.save(tmp_path, "tiny", following, **settings)
    recogniser = load(package.path)
    assert isinstance(recogniser, MoonshineRecogniser)
    return recogniser


def test_text_is_what_the_tokens_spell(tmp_path: Path) -> None:
    recogniser = loaded(tmp_path, HELLO)
    [transcript] = recogniser.transcribe([recording(2.0)])
    assert transcript.text == "hello worldé"
    assert transcript.words == ()
    assert transcript.duration_seconds == 2.0
    assert transcript.stages.infer > 0


def test_the_cache_holds_one_step_for_each_token(tmp_path: Path) -> None:
    recogniser = loaded(tmp_path, HELLO)
    session, steps = recogniser._decoder._session, []

    class Spy:
        def run(self, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            steps.append(
                (
                    bool(feeds["use_cache_branch"][0]),
                    feeds["past_key_values.0.decoder.key"].shape[:3:2],
                    feeds["past_key_values.0.encoder.value"].shape[:3:2],
                )
            )
            return session.run(names, feeds)

    recogniser._decoder._session = Spy()
    recogniser.transcribe([recording(1.0)])
    # The first run fills the cache from nothing; the encoder's part then stays as it is.
    assert steps[0] == (False, (0, 1), (0, 1))
    assert steps[1:] == [(True, (1, count), (1, 1)) for count in range(1, len(HELLO) + 1)]


@pytest.mark.parametrize(
    ("following", "text"),
    [({START: 8, 8: 8}, "no"), ({START: 3, 3: 8, 8: 4, 4: 8}, "hello no wor")],
    ids=["one word", "a phrase"],
)
def test_a_loop_is_cut_to_one_round(tmp_path: Path, following: dict[int, int], text: str) -> None:
    recogniser = loaded(tmp_path, following, tokens_per_second=50)
    [[generated]] = recogniser.infer([recogniser.features(recording(20.0))])
    assert not generated.finished
    assert recogniser.transcribe([recording(20.0)])[0].text == text


def test_repetition_that_people_say_is_kept() -> None:
    assert without_loop([8] * 5) == ()
    assert without_loop([3, 4, 5, 3, 4, 5]) == ()
    assert without_loop([3, *[8] * 12]) == [3, 8]
    assert without_loop([3, *[4, 5, 6, 7] * 3]) == [3, 4, 5, 6, 7]
    assert without_loop([]) == ()


def test_tokens_are_limited_by_the_seconds(tmp_path: Path) -> None:
    chain = {START: 3, 3: 4, 4: 5, 5: 8, 8: 3}
    recogniser = loaded(tmp_path, chain, tokens_per_second=0.5)
    [[short]] = recogniser.infer([recogniser.features(recording(1.0))])
    [[longer]] = recogniser.infer([recogniser.features(recording(6.0))])
    assert (len(short.tokens), len(longer.tokens)) == (7, 9)


def test_long_recordings_are_cut_and_joined(tmp_path: Path) -> None:
    recogniser = loaded(tmp_path, HELLO, longest_seconds=4)
    audio = recording(10.0)
    pieces = recogniser.features(audio)
    assert len(pieces) == 3 or len(pieces) == 4
    np.testing.assert_array_equal(np.concatenate(pieces), audio.samples)
    assert recogniser.transcribe([audio])[0].text == " ".join(["hello worldé"] * len(pieces))


@pytest.mark.parametrize("kind", ["nothing", "zeros", "offset", "dither", "white", "tone"])
def test_nothing_said_is_empty_text(tmp_path: Path, kind: str) -> None:
    rng, time = np.random.default_rng(0), np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    samples = {
        "nothing": np.zeros(0),
        "zeros": np.zeros(5 * SAMPLE_RATE),
        "offset": np.full(SAMPLE_RATE, 0.25),
        "dither": 3e-5 * rng.standard_normal(5 * SAMPLE_RATE),
        "white": 0.1 * rng.standard_normal(60 * SAMPLE_RATE),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
    }[kind]
    recogniser = loaded(tmp_path, HELLO)
    audio = Audio(samples.astype(np.float32))
    silent, spoken = recogniser.transcribe([audio, recording(1.0)])
    assert silent.text == ""
    assert spoken.text == "hello worldé"


def test_a_blink_of_sound_is_taken(tmp_path: Path) -> None:
    assert loaded(tmp_path, HELLO).transcribe([recording(0.03)])[0].text in ("", "hello worldé")


def test_threads_share_a_recogniser(tmp_path: Path) -> None:
    recogniser, results = loaded(tmp_path, HELLO), []

    def work() -> None:
        results.extend(recogniser.transcribe([recording(0.5 + 0.1 * index)])[0].text for index in range(4))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["hello worldé"] * 16


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    recogniser = loaded(tmp_path, HELLO)
    with pytest.raises(FrontEndError, match="8000"):
        recogniser.transcribe([Audio(recording(1.0).samples, 8000)])
    with pytest.raises(DecoderUnavailableError, match="greedy"):
        recogniser.transcribe([recording(1.0)], decoder="graph")
    package = recogniser.package
    with pytest.raises(PackageError, match="2 networks"):
        _ = package.graph_file
    (package.path / "decoder_model_merged.onnx").write_bytes(moonshine.encoder())
    with pytest.raises(GraphMismatchError, match="input_values"):
        load(package.path)
    (package.path / "tokenizer.json").unlink()
    with pytest.raises(PackageError, match=r"tokenizer\.json"):
        ModelPackage.load(package.path)


@pytest.mark.parametrize("settings", [{"tokenizer": "../secret"}, {"unknown": 1}, {"tokens_per_second": 0}])
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, object]) -> None:
    package = moonshine.save(tmp_path, "tiny", HELLO)
    fields = package.manifest.model_dump(mode="json")
    fields["moonshine"] |= settings
    (package.path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(ManifestError, match=f"moonshine.*{next(iter(settings))}"):
        ModelPackage.load(package.path)


def test_tokens_become_text() -> None:
    tokens = TokenDecoder(PIECES, special=(0, 1, 2))
    assert tokens.text([1, 3, 4, 5, 2]) == "hello world"
    assert tokens.text([3, 6, 7]) == "helloé"
    assert tokens.text([6, 3]) == "� hello"
    assert tokens.text([999]) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {"type": "WordPiece"}}', '{"model": {"type": "BPE"}}'])
def test_other_tokenizers_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(PackageError, match="tokenizer"):
        TokenDecoder.load(tmp_path / "tokenizer.json")


@pytest.fixture(scope="module")
def real() -> MoonshineRecogniser:
    """The published network, where `deepthin models pull moonshine-tiny` has put it."""
    recogniser = load(moonshine.pulled().path)
    assert isinstance(recogniser, MoonshineRecogniser)
    return recogniser


def plain(text: str) -> list[str]:
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter == " ").split()


def test_the_real_network_hears_the_demo_clip(real: MoonshineRecogniser) -> None:
    clip = own_clip()
    [transcript] = real.transcribe([decode(clip.data)])
    assert clip.reference is not None
    said, heard = plain(clip.reference), plain(transcript.text)
    assert len(set(said) & set(heard)) > 0.6 * len(set(said)), transcript.text


@pytest.mark.parametrize("kind", ["zeros", "white", "pink", "hum", "chords", "clicks"])
def test_the_real_network_invents_nothing(real: MoonshineRecogniser, kind: str) -> None:
    rng, seconds = np.random.default_rng(1), 12
    count = seconds * SAMPLE_RATE
    time = np.arange(count) / SAMPLE_RATE
    if kind == "zeros":
        samples = np.zeros(count)
    elif kind == "white":
        samples = 0.1 * rng.standard_normal(count)
    elif kind == "pink":
        spectrum = np.fft.rfft(rng.standard_normal(count)) / np.sqrt(np.arange(count // 2 + 1) + 1.0)
        samples = np.fft.irfft(spectrum)
        samples *= 0.1 / samples.std()
    elif kind == "hum":
        samples = sum(0.1 / k * np.sin(2 * np.pi * 50 * k * time) for k in (1, 2, 3, 5))
    elif kind == "chords":
        # Two chords a second, each dying away: loudness comes and goes as in speech, and no gate stops it.
        notes = np.array([262.0, 330.0, 392.0, 349.0, 440.0, 523.0])
        index = (2 * time).astype(int)
        pitch = notes[(index * 2) % 6], notes[(index * 2 + 1) % 6]
        samples = 0.2 * sum(np.sin(2 * np.pi * p * time) for p in pitch) * np.exp(-4 * (time * 2 % 1))
    else:
        samples = np.zeros(count)
        samples[:: SAMPLE_RATE // 3] = 0.5
    [transcript] = real.transcribe([Audio(np.asarray(samples, np.float32))])
    assert transcript.text == ""


def test_the_real_network_on_real_speech(real: MoonshineRecogniser, corpora: Path) -> None:
    result = evaluate(real, corpora / "librispeech-dev", limit=12)
    assert result.wer < 0.15
