"""Corpora on disk, and a cache of their features in every augmented variant.

A corpus is a folder with a `manifest.tsv` (utterance, speaker, path, seconds, transcript). Features are computed once
per utterance and variant (speed, codec) and stored as one fp16 array per variant, so that an epoch reads memory maps.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from models.audio import SAMPLE_RATE, Audio, decode
from models.features import FrontEnd
from ops.errors import DeepThinError


class CorpusError(DeepThinError, ValueError):
    """A corpus folder that cannot be used."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        name: the utterance's identifier.
        speaker: the speaker's identifier.
        path: the audio file.
        transcript: upper-case words joined by blanks.
    """

    name: str
    speaker: str
    path: Path
    transcript: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One way the training audio is changed before features are taken.

    Attributes:
        speed: tempo and pitch factor (Ko et al., Interspeech 2015); 1.0 leaves the audio alone.
        codec: "" or "mp3" (a 24 kbit/s round trip, for robustness against lossy recordings).
    """

    speed: float = 1.0
    codec: str = ""

    def apply(self, audio: Audio) -> Audio:
        """The changed audio at the same sample rate."""
        changed = _change_speed(audio, self.speed) if self.speed != 1.0 else audio
        if self.codec == "mp3":
            return _mp3_round_trip(changed)
        if self.codec:
            raise CorpusError(f"unknown codec {self.codec!r} in a variant: '' or 'mp3'")
        return changed


def read_manifest(folder: Path) -> list[Utterance]:
    """The utterances of a corpus folder, in the manifest's order.

    Raises:
        CorpusError: no manifest, or a manifest without the columns.
    """
    path = folder / "manifest.tsv"
    if not path.is_file():
        raise CorpusError(f"{folder} holds no manifest.tsv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    try:
        return [Utterance(r["utterance"], r["speaker"], folder / r["path"], r["transcript"]) for r in rows]
    except KeyError as error:
        raise CorpusError(f"{path} has no column {error}") from error


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Features of many utterances, one fp16 memory map [frames, dim] per variant.

    Attributes:
        frames: per variant the concatenated features.
        offsets: per variant int64 [utterances + 1], where each utterance starts.
    """

    frames: tuple[npt.NDArray[np.float16], ...]
    offsets: tuple[npt.NDArray[np.int64], ...]

    def get(self, utterance: int, variant: int) -> npt.NDArray[np.float16]:
        """Features [frames, dim] of one utterance in one variant."""
        offsets = self.offsets[variant]
        return self.frames[variant][offsets[utterance] : offsets[utterance + 1]]

    def length(self, utterance: int, variant: int) -> int:
        """Frames of one utterance in one variant."""
        offsets = self.offsets[variant]
        return int(offsets[utterance + 1] - offsets[utterance])


def feature_cache(
    utterances: Sequence[Utterance], front_end: FrontEnd, variants: Sequence[Variant], folder: Path, processes: int = 2
) -> FeatureCache:
    """Open the cache of these utterances, computing what is missing.

    The cache's name is a hash of everything it depends on, so a changed front end never reads stale features.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames, offsets = [], []
    for variant in variants:
        names = [u.name for u in utterances]
        key = json.dumps([front_end.to_dict(), asdict(variant), names])
        stem = folder / f"features-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        data, index = stem.with_suffix(".npy"), stem.with_suffix(".offsets.npy")
        if not (data.is_file() and index.is_file()):
            _build(utterances, front_end, variant, data, index, processes)
        frames.append(np.load(data, mmap_mode="r"))
        offsets.append(np.load(index))
    return FeatureCache(tuple(frames), tuple(offsets))


def _build(
    utterances: Sequence[Utterance], front_end: FrontEnd, variant: Variant, data: Path, index: Path, processes: int
) -> None:
    jobs = [(u.path, front_end, variant) for u in utterances]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(_extract, jobs, chunksize=16)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    temporary = data.with_suffix(".tmp.npy")
    np.save(temporary, np.concatenate(parts))
    np.save(index, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))
    temporary.rename(data)


def _extract(path: Path, front_end: FrontEnd, variant: Variant) -> npt.NDArray[np.float16]:
    audio = decode(path.read_bytes(), sample_rate=front_end.sample_rate)
    return front_end.extract(variant.apply(audio)).astype(np.float16)


def _change_speed(audio: Audio, speed: float) -> Audio:
    # Declaring another rate and resampling back changes tempo and pitch together, as sox's `speed` does.
    resampler = av.AudioResampler(format="flt", layout="mono", rate=audio.sample_rate)
    frame = av.AudioFrame.from_ndarray(audio.samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = round(audio.sample_rate * speed)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    samples = np.concatenate([f.to_ndarray().reshape(-1) for f in frames])
    return Audio(samples.astype(np.float32), audio.sample_rate)


def _mp3_round_trip(audio: Audio) -> Audio:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", options={"b": "24000"})
        stream.bit_rate = 24_000
        samples = audio.samples.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = audio.sample_rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return decode(buffer.getvalue(), sample_rate=audio.sample_rate)


def load_corpora(folders: Iterable[Path]) -> list[Utterance]:
    """The utterances of several corpora, one after the other."""
    return [utterance for folder in folders for utterance in read_manifest(folder)]
