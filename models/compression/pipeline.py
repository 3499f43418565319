"""From a checkpoint to an evaluated model package, in stages that survive being killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.compression.job import Job
from models.compression.spec import CompressionSpec

STAGES: Final = ("validate", "plan", "compress", "fine-tune", "export", "parity", "evaluate", "gate")

_COSTS: Final = {
    "validate": 0.03, "plan": 0.01, "compress": 0.42, "fine-tune": 0.0, "export": 0.02, "parity": 0.03,
    "evaluate": 0.12, "gate": 0.01,
}  # fmt: skip
_SEARCH: Final = 0.6  # tries every method on every weight
_FINE_TUNING: Final = 0.4
_SCORING: Final = 0.24


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a job.

    Attributes:
        stage: one of `STAGES`.
        layer: name of the weight that is worked on, if it is one.
        fraction: share of the whole job that is done, 0 to 1; never goes back within one call of `run`.
        message: one line for people.
    """

    stage: str
    layer: str | None
    fraction: float
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished job leaves behind.

    Attributes:
        package: folder of the model package, `result/<name>/`.
        transport: the whole model as one bitstream, `result/model.dtz`.
        report: `result/report.json`.
        accepted: the gate let the model through; otherwise it should be quarantined, not hosted.
        reasons: why it was not accepted, one sentence each.
    """

    package: Path
    transport: Path
    report: Path
    accepted: bool
    reasons: tuple[str, ...]


def run(
    folder: Path,
    spec: CompressionSpec,
    *,
    progress: Callable[[Event], None],
    corpora: Callable[[str], Path],
    threads: int = 1,
) -> Outcome:
    """Do the job in `folder`, or go on with it after the last stage that was finished.

    Args:
        folder: holds `checkpoint.onnx`, `checkpoint.zip` (a model package) or `checkpoint.safetensors` with
            `config.toml`; optionally `calibration.zip` and `evaluation.zip`, which the corpus name "upload" stands for.
            Each finished stage leaves `stages/<stage>/` with a file `done`, written last and atomically; the end is
            `result/`. The caller keeps `spec` the same from call to call.
        spec: what to do.
        progress: called often, from this thread; what it raises ends the job where it stands.
        corpora: folder (with `manifest.tsv`) of the installed corpus of that name; raises `CorpusError` for a name that
            is not installed.
        threads: threads of ONNX Runtime's sessions.

    Returns:
        Where the results are; also for a model that the gate did not accept.

    Raises:
        DeepThinError: the job failed for a reason of the user's, which the message names (`CompressionError` and its
            subclasses for the checkpoint and the spec, `CorpusError` for corpora).
    """
    before = 0.0
    job = Job(folder, spec, corpora, threads)
    shares = _shares(spec)
    for stage in STAGES:
        share = shares[stage]

        def report(
            part: float, message: str, layer: str | None = None, *, stage: str = stage, begin: float = before
        ) -> None:
            progress(Event(stage, layer, min(begin + shares[stage] * min(max(part, 0.0), 1.0), 1.0), message))

        if not job.stages.done(stage):
            report(0.0, f"{stage} begins")
            job.do(stage, report)
            job.stages.finish(stage)
        before += share
        report(0.0, f"{stage} done", begin=before)
    result = job.result()
    return Outcome(result.package, result.transport, result.report, result.accepted, result.reasons)


def _shares(spec: CompressionSpec) -> dict[str, float]:
    """Roughly the share of the whole time that each stage takes."""
    costs = dict(_COSTS)
    if spec.budget is not None:
        costs["plan"] = _SEARCH
    if spec.fine_tune is not None:
        costs["fine-tune"] = _FINE_TUNING
    if spec.evaluation:
        costs["evaluate"] = _SCORING
    return {stage: cost / sum(costs.values()) for stage, cost in costs.items()}
