"""Audio bytes in any common container, decoded to mono float32 at the rate the models want."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np
import numpy.typing as npt

from ops.errors import DeepThinError

SAMPLE_RATE = 16_000

# Playlist demuxers (hls, concat, dash, sdp ...) can open other files and addresses: only plain containers are probed.
_CONTAINERS = (
    "wav,w64,rf64,aiff,au,caf,flac,mp3,ogg,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,aac,ac3,eac3,amr,asf,avi,mpegts,mpeg,"
    "flv,wv,ape,tta,voc,oma,dts"
)
# WAV would be searched for other codecs in disguise, which takes longer than to decode a few seconds of it.
_OPTIONS: Final = {"format_whitelist": _CONTAINERS, "max_probe_packets": "4"}
# Titles and the like are not read: what is wrong in them must not matter. PyAV 19 has no such argument any more.
_LENIENT: Final[dict[str, Any]] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}


# A claimed rate of 1 Hz would turn one frame into gigabytes before the limit on seconds could stop it.
_LOWEST_RATE = 1000


class AudioError(DeepThinError, ValueError):
    """Bytes that cannot be turned into audio."""


class UnsupportedAudioError(AudioError):
    """The bytes are not audio in a container and codec that can be decoded."""


class EmptyAudioError(AudioError):
    """The container is readable but holds no samples."""


class AudioTooLongError(AudioError):
    """The recording is longer than the caller allows."""


@dataclass(frozen=True, slots=True)
class Audio:
    """One mono recording.

    Attributes:
        samples: float32 [samples], nominally in [-1, 1].
        sample_rate: samples per second.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int = SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def decode(data: bytes | BinaryIO, *, sample_rate: int = SAMPLE_RATE, max_seconds: float | None = None) -> Audio:
    """Decode the first audio stream of `data`, mixed to mono and resampled to `sample_rate`.

    A recording cut off in the middle gives what could be decoded before the cut.

    Raises:
        UnsupportedAudioError: not a known container, no audio stream, or an unknown codec.
        EmptyAudioError: no samples inside.
        AudioTooLongError: longer than `max_seconds`; decoding stops there, so memory stays bounded.
    """
    source = io.BytesIO(data) if isinstance(data, bytes | bytearray | memoryview) else data
    limit = None if max_seconds is None else int(max_seconds * sample_rate)
    try:
        chunks = _decode_chunks(source, sample_rate, limit)
    except (av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, AudioError):
            raise
        raise UnsupportedAudioError(f"the data is not audio that can be decoded: {error}") from error
    if not chunks:
        raise EmptyAudioError("the recording holds no audio samples")
    samples = np.concatenate(chunks)
    # A float container may carry NaN and infinities; they would poison every frame they touch.
    np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
    np.clip(samples, -8.0, 8.0, out=samples)
    return Audio(samples, sample_rate)


def _decode_chunks(source: BinaryIO, sample_rate: int, limit: int | None) -> list[npt.NDArray[np.float32]]:
    chunks: list[npt.NDArray[np.float32]] = []
    total = 0

    def take(frame: av.AudioFrame | None) -> None:
        nonlocal total
        for piece in resampler.resample(frame):
            if piece.samples:
                chunks.append(piece.to_ndarray().reshape(-1).astype(np.float32, copy=True))
                total += piece.samples
        if limit is not None and total > limit:
            raise AudioTooLongError(f"the recording is longer than {limit / sample_rate:g} seconds")

    with av.open(source, mode="r", options=_OPTIONS, **_LENIENT) as container:
        if not container.streams.audio:
            raise UnsupportedAudioError("the file holds no audio stream")
        stream = container.streams.audio[0]
        # A second at a time: packets of 20 ms would cost more to hand over than to resample.
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate, frame_size=sample_rate)
        begun = False
        try:
            for frame in container.decode(stream):
                if frame.sample_rate < _LOWEST_RATE:
                    raise UnsupportedAudioError(f"a sample rate of {frame.sample_rate} Hz holds no speech")
                take(frame)
                begun = True
        except av.error.FFmpegError:
            if not begun:
                raise
        if begun:
            take(None)
    return chunks
