"""A cache of the training corpora's features in every variant of the recordings: speeds, and lossy coding.

Features are computed once per utterance and variant and stored as one fp16 array per variant, so that an epoch reads
memory maps.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from models.audio import Audio, decode
from models.evaluation import Utterance, read_corpus
from models.features import FrontEnd


@dataclass(frozen=True, slots=True)
class Variant:
    """What is done to a recording before its features are taken.

    Attributes:
        speed: tempo and pitch are multiplied by it.
        kbits: then it is coded as MP3 at so many kbit/s; None leaves it as it is.
    """

    speed: float = 1.0
    kbits: int | None = None


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Frames of many utterances, one fp16 memory map [frames, dim] per variant.

    Attributes:
        frames: per variant the frames of all utterances, one after the other.
        offsets: per variant int64 [utterances + 1], where each utterance starts.
    """

    frames: tuple[npt.NDArray[np.float16], ...]
    offsets: tuple[npt.NDArray[np.int64], ...]

    def get(self, utterance: int, variant: int) -> npt.NDArray[np.float16]:
        """Frames [frames, dim] of one utterance in one variant."""
        offsets = self.offsets[variant]
        return self.frames[variant][offsets[utterance] : offsets[utterance + 1]]

    def length(self, utterance: int, variant: int) -> int:
        """Frames of one utterance in one variant."""
        offsets = self.offsets[variant]
        return int(offsets[utterance + 1] - offsets[utterance])


def feature_cache(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    variants: Sequence[Variant],
    folder: Path,
    processes: int = 2,
) -> FeatureCache:
    """Open the cache of these utterances, computing the variants that are missing.

    A file's name is a hash of everything it depends on, so a changed front end never reads stale features.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stems = []
    for variant in variants:
        coded = [] if variant.kbits is None else [variant.kbits]
        key = json.dumps([front_end.to_dict(), variant.speed, [u.name for u in utterances], *coded])
        stems.append(folder / f"features-{hashlib.sha256(key.encode()).hexdigest()[:16]}")
    missing = [index for index, stem in enumerate(stems) if not stem.with_suffix(".npy").is_file()]
    if missing:
        jobs = [(u.path, front_end, [variants[index] for index in missing]) for u in utterances]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            parts = pool.starmap(_extract, jobs, chunksize=16)
        for position, index in enumerate(missing):
            store_frames([part[position] for part in parts], stems[index])
    return open_frames(stems)


def store_frames(parts: Sequence[npt.NDArray[np.float16]], stem: Path) -> None:
    """Write one variant's frames; the data file appears last and in one step."""
    np.save(stem.with_suffix(".offsets.npy"), np.concatenate([[0], np.cumsum([len(part) for part in parts])]))
    np.save(stem.with_suffix(".tmp.npy"), np.concatenate(parts))
    stem.with_suffix(".tmp.npy").rename(stem.with_suffix(".npy"))


def open_frames(stems: Iterable[Path]) -> FeatureCache:
    """Map the files that `store_frames` wrote."""
    paths = list(stems)
    return FeatureCache(
        tuple(np.load(stem.with_suffix(".npy"), mmap_mode="r") for stem in paths),
        tuple(np.load(stem.with_suffix(".offsets.npy")) for stem in paths),
    )


def _extract(path: Path, front_end: FrontEnd, variants: Sequence[Variant]) -> list[npt.NDArray[np.float16]]:
    audio = decode(path.read_bytes(), sample_rate=front_end.sample_rate)
    changed = [change_speed(audio, variant.speed) for variant in variants]
    heard = [a if v.kbits is None else through_mp3(a, v.kbits) for a, v in zip(changed, variants, strict=True)]
    return [front_end.extract(a).astype(np.float16) for a in heard]


def change_speed(audio: Audio, speed: float) -> Audio:
    """Change tempo and pitch together by a factor, as in speed perturbation (Ko et al., Interspeech 2015)."""
    if speed == 1.0:
        return audio
    resampler = av.AudioResampler(format="flt", layout="mono", rate=audio.sample_rate)
    frame = av.AudioFrame.from_ndarray(audio.samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate = round(audio.sample_rate * speed)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    samples = np.concatenate([f.to_ndarray().reshape(-1) for f in frames])
    return Audio(samples.astype(np.float32), audio.sample_rate)


def through_mp3(audio: Audio, kbits: int) -> Audio:
    """Code as MP3 at a constant rate and decode again: what a lossy recording leaves of the sound."""
    coded = io.BytesIO()
    with av.open(coded, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=audio.sample_rate, layout="mono")
        stream.bit_rate = 1000 * kbits
        frame = av.AudioFrame.from_ndarray(audio.samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = audio.sample_rate
        to_format = av.AudioResampler(format="fltp", layout="mono", rate=audio.sample_rate, frame_size=576)
        for part in (*to_format.resample(frame), *to_format.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    coded.seek(0)
    return decode(coded, sample_rate=audio.sample_rate)


def load_corpora(folders: Iterable[Path]) -> list[Utterance]:
    """The utterances of several corpora, one after the other."""
    return [utterance for folder in folders for utterance in read_corpus(folder)]
