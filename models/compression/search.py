"""A budget instead of a method: which method and size for which weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.compression.allocation import Candidate, allocate, candidates, loss
from models.compression.assess import speed
from models.compression.base import CompressionError, Plan
from models.compression.calibrate import Calibrator
from models.compression.evaluating import quality_of
from models.compression.export import export
from models.compression.network import Layer, Network
from models.compression.registry import method
from models.compression.report import weight_bytes
from models.compression.sensitivity import Sensitivity
from ops import library

if TYPE_CHECKING:
    from models.compression.job import Job, Report

_STEPS: Final = 6
_SAMPLE: Final = 12
_SENSITIVITY_ROWS: Final = 4000
_TRIED_FROM: Final = 0.4  # of the stage


@dataclass(frozen=True, slots=True)
class Trial:
    """One allocation, compressed and measured.

    Attributes:
        bytes: of all weights on disk, those that cannot be compressed included.
        loss: word error rate above the parent's, of the worst corpus; without a decoder, share of the output sequence
            that differs. None where no limit was set.
        latency: seconds of the network by second of audio (without recordings: by run); None where no limit was set.
    """

    bytes: int
    loss: float | None
    latency: float | None


def search(job: Job, report: Report) -> tuple[dict[str, Plan], dict[str, Any]]:
    """The plans that meet the job's budget, and notes for the report.

    With `target_bytes` alone the allocation is the answer. Limits on quality or time are met by bisection over the
    bytes: the smallest model within the loss, or the largest within the time.

    Raises:
        CompressionError: nothing that was tried meets the budget; the message names the best.
    """
    budget = job.spec.budget
    assert budget is not None
    search_ = _Search(job, report)
    # The network as it is would be no answer.
    low, high = search_.smallest, search_.dense - 1
    if budget.target_bytes is not None:
        if budget.target_bytes < low:
            raise CompressionError(
                f"target_bytes {budget.target_bytes} cannot be reached: the smallest that was found is {low} "
                f"({search_.fixed} of them in weights that cannot be compressed)"
            )
        high = min(high, budget.target_bytes)
    if budget.max_wer_delta is None and budget.target_latency is None:
        chosen = search_.at(high)
        return search_.plans(chosen), search_.notes(chosen)
    trials: list[tuple[int, Trial, dict[str, Candidate]]] = []

    def attempt(size: int) -> Trial:
        chosen = search_.at(size)

        def trying(part: float, message: str, layer: str | None = None) -> None:
            done = min((len(trials) + part) / (_STEPS + 2), 1.0)
            report(_TRIED_FROM + (1 - _TRIED_FROM) * done, f"trying {size} bytes: {message}", layer)

        trial = search_.measure(chosen, len(trials), trying)
        trials.append((size, trial, chosen))
        return trial

    def good(trial: Trial) -> tuple[bool, bool]:
        accurate = budget.max_wer_delta is None or (trial.loss or 0.0) <= budget.max_wer_delta
        return accurate, budget.target_latency is None or (trial.latency or 0.0) <= budget.target_latency

    attempt(high)
    accurate, quick = good(trials[-1][1])
    if not accurate or not quick:
        if accurate is False:
            _fail(trials, "max_wer_delta", budget.max_wer_delta)
        attempt(low)
        if not good(trials[-1][1])[1]:
            _fail(trials, "target_latency", budget.target_latency)
    shrink = budget.max_wer_delta is not None
    for _ in range(_STEPS):
        middle = int(np.sqrt(float(low) * high))
        if high - low < 0.05 * high or (quick and not shrink):
            break
        accurate, fast = good(attempt(middle))
        # Too slow calls for fewer bytes, and too many errors for more; within both limits it depends on what is wanted.
        if accurate and (shrink or not fast):
            high = middle
        else:
            low = middle
    fitting = [entry for entry in trials if all(good(entry[1]))]
    if not fitting:
        _fail(trials, "max_wer_delta and target_latency together", None)
    _, trial, chosen = (min if shrink else max)(fitting, key=lambda entry: entry[1].bytes)
    notes = search_.notes(chosen)
    return search_.plans(chosen), {**notes, "trials": [asdict(each) for _, each, _ in trials], "chosen": asdict(trial)}


class _Search:
    def __init__(self, job: Job, report: Report) -> None:
        self._job = job
        network = job.network
        budget = job.spec.budget
        assert budget is not None
        values = {layer.name: layer.dense_bytes // (2 if layer.name in job.half else 1) for layer in network.layers}
        self.fixed = weight_bytes(export(network, {}, half=job.half), {})[1] - sum(values.values())
        self.dense = self.fixed + sum(values.values())
        calibrator = None
        if job.spec.calibration:
            calibrator = Calibrator(network, job.calibration_feeds, threads=job.threads, max_rows=_SENSITIVITY_ROWS)
        given, _, kind = job.timed_sample(_SAMPLE)
        sensitivity = Sensitivity(network, given, kind, threads=job.threads)
        self._options: dict[str, list[Candidate]] = {}
        self._importance: dict[str, float] = {}
        # The rest is for trials, if there are any.
        share = 1.0 if budget.max_wer_delta is None and budget.target_latency is None else _TRIED_FROM
        for index, layer in enumerate(network.layers):
            report(share * index / len(network.layers), f"how sensitive is {layer.name}", layer.name)
            moments = None if calibrator is None else calibrator.moments(layer, None)

            def trying(part: float, name: str, index: int = index, layer: Layer = layer) -> None:
                done = (index + part) / len(network.layers)
                report(share * done, f"how sensitive is {layer.name}: {name}", layer.name)

            options = candidates(network, layer, budget.methods, moments, values[layer.name], trying)
            self._options[layer.name] = options
            self._importance[layer.name] = _importance(network, layer, options, sensitivity)
        self.smallest = self.fixed + sum(options[0].bytes for options in self._options.values())

    def at(self, size: int) -> dict[str, Candidate]:
        """The best allocation of `size` bytes, those of other weights included."""
        return allocate(self._options, self._importance, size - self.fixed)

    def plans(self, chosen: Mapping[str, Candidate]) -> dict[str, Plan]:
        found = {name: candidate.plan for name, candidate in chosen.items() if candidate.plan is not None}
        if not found:
            raise CompressionError("nothing smaller than the network as it is meets the budget")
        return found

    def notes(self, chosen: Mapping[str, Candidate]) -> dict[str, Any]:
        return {
            "bytes": self.fixed + sum(candidate.bytes for candidate in chosen.values()),
            "smallest": self.smallest,
            "dense": self.dense,
            "importance": {name: float(f"{value:.4g}") for name, value in self._importance.items()},
        }

    def measure(self, chosen: Mapping[str, Candidate], number: int, report: Report) -> Trial:
        """Compress as chosen, data-aware where the job is, and measure."""
        job, budget = self._job, self._job.spec.budget
        assert budget is not None
        plans = {name: candidate.plan for name, candidate in chosen.items() if candidate.plan is not None}
        folder = job.stages.begin("plan") / f"trial{number}"
        folder.mkdir(exist_ok=True)
        job.compress_into(folder, plans, lambda part, message, layer=None: report(0.6 * part, message, layer))
        report(0.6, "measuring")
        state = job.state(f"plan/trial{number}")
        model = job.exported_with(state)
        size = self.fixed + sum(candidate.bytes for candidate in chosen.values())
        loss = latency = None
        if budget.max_wer_delta is not None:
            loss = quality_of(job, model, folder)
        if budget.target_latency is not None:
            given, seconds, _ = job.timed_sample(_SAMPLE)
            parent = library.session(job.original.SerializeToString(), threads=job.threads)
            result = library.session(model.SerializeToString(), threads=job.threads)
            times = speed(parent, result, given, seconds, threads=job.threads)
            latency = times.rtf if times.rtf is not None else times.seconds
        return Trial(size, loss, latency)


def _importance(network: Network, layer: Layer, options: list[Candidate], sensitivity: Sensitivity) -> float:
    """Squared error of the network's output by the loss of this layer's, for a middling candidate."""
    tried = [candidate for candidate in options if candidate.plan is not None and candidate.error > 0]
    if not tried:
        return 1.0
    candidate = min(tried, key=lambda each: abs(each.error - 0.3))
    assert candidate.plan is not None
    chosen = method(candidate.plan.method)
    dense = chosen.decompress(chosen.compress(network.weight(layer), candidate.plan))
    return max(sensitivity.output_error(layer, dense) ** 2 / loss(candidate.error), 1e-9)


def _fail(trials: list[tuple[int, Trial, dict[str, Candidate]]], what: str, limit: float | None) -> None:
    parts = [
        f"{trial.bytes} bytes"
        + ("" if trial.loss is None else f" at a loss of {trial.loss:.4f}")
        + ("" if trial.latency is None else f" at {trial.latency:.4g} s")
        for _, trial, _ in trials
    ]
    wish = "" if limit is None else f" {limit:g}"
    raise CompressionError(f"{what}{wish} cannot be met; what was tried: {'; '.join(parts)}")
