"""Recordings that end early, or late."""

from __future__ import annotations

import io

import numpy as np
import pytest

from models.audio import AudioTooLongError, UnsupportedAudioError, decode
from tests.support import babble, encode


@pytest.mark.parametrize(("container", "codec"), [("wav", "pcm_s16le"), ("flac", "flac")])
def test_every_sample_comes_through_whatever_the_length(container: str, codec: str) -> None:
    for seconds in (0.02, 0.5, 1.0, 1.7, 3.0):
        audio = decode(encode(babble(seconds), container=container, codec=codec))
        assert len(audio.samples) == int(seconds * 16_000)


def test_a_cut_recording_gives_what_came_before_the_cut_however_little() -> None:
    whole = encode(babble(3.0), container="flac", codec="flac")
    samples = decode(whole).samples
    for share in (0.2, 0.6):
        cut = decode(whole[: int(share * len(whole))]).samples
        assert 0 < len(cut) < len(samples)
        np.testing.assert_array_equal(cut, samples[: len(cut)])


def test_the_limit_holds_for_a_recording_that_is_hardly_longer() -> None:
    assert decode(encode(babble(1.5)), max_seconds=1.5).seconds == 1.5
    for seconds in (1.6, 2.5):
        with pytest.raises(AudioTooLongError, match=r"longer than 1\.5 seconds"):
            decode(io.BytesIO(encode(babble(seconds))), max_seconds=1.5)


def test_a_head_without_samples_is_no_recording() -> None:
    with pytest.raises(UnsupportedAudioError):
        decode(encode(babble(1.0), container="flac", codec="flac")[:60])
