"""The stage `evaluate` of a job: quality, speed and bytes of the result beside those of its parent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from models.audio import Audio
from models.compression import stages
from models.compression.assess import Runs, agreement, speed, word_errors
from models.compression.base import Array
from models.compression.listening import WAVEFORM
from models.package import ModelPackage
from models.recognisers import load
from models.store import GRAPHS_FOLDER, home
from ops import library

if TYPE_CHECKING:
    from models.compression.job import Job, Report

SAMPLE: Final = 24
"""Recordings at most that parent and result are compared on and timed with."""

_CHANGED: Final = "candidate"
_PARENT: Final = "parent"


def evaluate_job(job: Job, report: Report) -> dict[str, Any]:
    """Everything that is measured, as JSON values; word error rates where the model has a decoder and corpora."""
    parent = library.session(job.original.SerializeToString(), threads=job.threads)
    result = library.session(job.exported.SerializeToString(), threads=job.threads)
    given, seconds, kind = job.timed_sample(min(job.spec.limit or SAMPLE, SAMPLE))
    report(0.02, "comparing with the parent")
    same = agreement(parent, result, given, kind)
    report(0.1, f"{same.frames:.1%} of frames agree with the parent")
    timed: tuple[Runs, Runs] = (parent, result)
    if job.manifest is not None and job.manifest.moonshine is not None:
        folder = job.stages.folder("evaluate")
        timed = (
            _Transcribing(job, folder / "parent_quality", job.original),
            _Transcribing(job, folder / "quality", job.exported),
        )
    times = speed(*timed, given, seconds, threads=job.threads)
    report(0.15, f"takes {times.ratio:.2f} times the parent's time")
    found: dict[str, Any] = {"agreement": asdict(same), "speed": asdict(times), "quality": {}, "parent_quality": {}}
    if job.spec.evaluation and job.manifest is not None and job.manifest.family != "network":
        corpora = {name: job.evaluation.folder(name) for name in job.spec.evaluation}
        folder = job.stages.folder("evaluate")
        for index, (key, graph) in enumerate((("parent_quality", job.original), ("quality", job.exported))):
            package = _package(job, folder / key, graph)
            scores = word_errors(
                package.path,
                corpora,
                job.spec.limit,
                threads=job.threads,
                progress=lambda part, index=index: report(0.15 + 0.42 * (index + part), "transcribing"),  # type: ignore[misc]
            )
            found[key] = {
                name: {field: getattr(score, field) for field in ("wer", "cer", "rtf", "utterances", "words")}
                for name, score in scores.items()
            }
    return found


def quality_of(job: Job, model: onnx.ModelProto, folder: Path) -> float:
    """Word error rate of `model` above the parent's on the worst corpus; without a decoder, the share of its output
    sequence that differs from the parent's."""
    if job.manifest is None or job.manifest.family == "network":
        parent = library.session(job.original.SerializeToString(), threads=job.threads)
        result = library.session(model.SerializeToString(), threads=job.threads)
        given, _, kind = job.timed_sample(min(job.spec.limit or SAMPLE, SAMPLE))
        return 1.0 - agreement(parent, result, given, kind).phones
    corpora = {name: job.evaluation.folder(name) for name in job.spec.evaluation}
    scores = []
    for key, graph in ((_PARENT, job.original), (_CHANGED, model)):
        kept = folder.parent / f"{key}.json"
        if key == _PARENT and kept.is_file():
            scores.append(stages.read_json(kept))
            continue
        package = _package(job, folder / key, graph)
        found = word_errors(package.path, corpora, job.spec.limit, threads=job.threads, progress=lambda _: None)
        scores.append({name: score.wer for name, score in found.items()})
        if key == _PARENT:
            stages.write_json(kept, scores[0])
    return float(max(scores[1][name] - scores[0][name] for name in corpora))


class _Transcribing:
    """A recogniser that is timed as a network is: what writes text token by token runs its decoder again and again."""

    def __init__(self, job: Job, folder: Path, model: onnx.ModelProto) -> None:
        assert job.manifest is not None
        self._recogniser = load(_package(job, folder, model).path, threads=job.threads)

    def run(self, outputs: None, feed: dict[str, Array]) -> None:
        """Transcribe the recording in a feed."""
        samples = np.asarray(feed[WAVEFORM][0], np.float32)
        self._recogniser.transcribe([Audio(samples, self._recogniser.manifest.sample_rate)])


def _package(job: Job, folder: Path, model: onnx.ModelProto) -> ModelPackage:
    assert job.manifest is not None
    own = home() / "models" / GRAPHS_FOLDER
    if own.is_dir() and not (folder / GRAPHS_FOLDER).exists():
        # A decoding graph is looked for beside the package that names it.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GRAPHS_FOLDER).symlink_to(own.resolve(), target_is_directory=True)
    return job.save_package(folder, job.manifest.model_copy(update={"name": _CHANGED}), model)
