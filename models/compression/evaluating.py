"""The stage `evaluate` of a job: quality, speed and bytes of the result beside those of its parent."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import onnx

from models.compression import stages
from models.compression.assess import agreement, speed, word_errors
from models.package import Manifest, ModelPackage
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
    times = speed(parent, result, given, seconds, threads=job.threads)
    report(0.15, f"takes {times.ratio:.2f} times the parent's time")
    found: dict[str, Any] = {"agreement": asdict(same), "speed": asdict(times), "quality": {}, "parent_quality": {}}
    if job.spec.evaluation and job.manifest is not None and job.manifest.family != "network":
        corpora = {name: job.evaluation.folder(name) for name in job.spec.evaluation}
        folder = job.stages.folder("evaluate")
        for index, (key, graph) in enumerate((("parent_quality", job.original), ("quality", job.exported))):
            package = _package(folder / key, job.manifest, graph.SerializeToString())
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
        package = _package(folder / key, job.manifest, graph.SerializeToString())
        found = word_errors(package.path, corpora, job.spec.limit, threads=job.threads, progress=lambda _: None)
        scores.append({name: score.wer for name, score in found.items()})
        if key == _PARENT:
            stages.write_json(kept, scores[0])
    return float(max(scores[1][name] - scores[0][name] for name in corpora))


def _package(folder: Path, manifest: Manifest, graph: bytes) -> ModelPackage:
    own = home() / "models" / GRAPHS_FOLDER
    if own.is_dir() and not (folder / GRAPHS_FOLDER).exists():
        # A decoding graph is looked for beside the package that names it.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / GRAPHS_FOLDER).symlink_to(own.resolve(), target_is_directory=True)
    return ModelPackage.save(folder, manifest.model_copy(update={"name": _CHANGED}), graph)
