"""The stages of a compression job, each from what the ones before it left on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import Any, Final, Protocol

import onnx

from models.compression import chains, parity, stages
from models.compression.base import Array, Compressed, CompressionError, Plan, relative_error
from models.compression.calibrate import FEW_ROWS, MAX_ROWS, Calibrator
from models.compression.compressing import approximated, compress_layer, stored_weight, stored_weights
from models.compression.evaluating import evaluate_job
from models.compression.export import export
from models.compression.feeds import inputs_for, random_feeds
from models.compression.inspecting import (
    NO_FRONT_END,
    check_fine_tuning,
    check_front_end,
    check_sizes,
    inspect,
    require_training,
)
from models.compression.joined import split
from models.compression.listening import AudioInputs, CtcInputs, MoonshineInputs
from models.compression.network import Network, find, with_weights
from models.compression.packaging import Result, load_result, pack_result
from models.compression.planning import plans
from models.compression.recordings import Corpora, feeds
from models.compression.registry import method
from models.compression.spec import CompressionSpec
from models.features import FrontEnd
from models.package import Manifest, ModelPackage, parse_manifest

ORIGINAL: Final = "model.onnx"
_NETWORK: Final = "network.onnx"
_MANIFEST: Final = "manifest.json"
_FILES: Final = "files"
_QUANTISED: Final = "quantised.json"
_RANDOM_RUNS: Final = 4
_PARITY_RUNS: Final = 8


class Report(Protocol):
    """Called by a stage with its progress."""

    def __call__(self, part: float, message: str, layer: str | None = None) -> None:
        """`part`: share of the stage that is done."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """Compressed weights and what changed along with them.

    Attributes:
        layers: compressed weights by name.
        changed: other initialisers with new values.
        seconds: time that each took.
    """

    layers: dict[str, Compressed]
    changed: dict[str, Array]
    seconds: dict[str, float]


class Job:
    """One job in its folder."""

    def __init__(self, folder: Path, spec: CompressionSpec, corpora: Callable[[str], Path], threads: int) -> None:
        """See `models.compression.pipeline.run`."""
        self.folder = folder
        self.spec = spec
        self.stages = stages.Stages(folder)
        self.threads = threads
        self.calibration = Corpora(folder, corpora, "calibration")
        self.evaluation = Corpora(folder, corpora, "evaluation")

    def do(self, stage: str, report: Report) -> None:
        """Run one stage."""
        step: Callable[[Report], None] = getattr(self, f"_{stage.replace('-', '_')}")
        step(report)

    def result(self) -> Result:
        """Where the finished job's results are."""
        return load_result(self.folder / "result")

    @cached_property
    def original(self) -> onnx.ModelProto:
        """The checkpoint as it came."""
        return onnx.load(str(self.stages.folder("validate") / ORIGINAL))

    @cached_property
    def network(self) -> Network:
        """The normalised network."""
        return find(onnx.load(str(self.stages.folder("validate") / _NETWORK)))

    @cached_property
    def half(self) -> frozenset[str]:
        """Initialisers that the checkpoint stores as fp16."""
        return frozenset(stages.read_json(self.stages.folder("validate") / "half.json"))

    @cached_property
    def quantised(self) -> dict[str, int]:
        """Bytes in the checkpoint of weights that it stores as integers; from here on they are fp32."""
        path = self.stages.folder("validate") / _QUANTISED
        return dict(stages.read_json(path)) if path.is_file() else {}

    @cached_property
    def manifest(self) -> Manifest | None:
        """The checkpoint's manifest, if it came with one."""
        path = self.stages.folder("validate") / _MANIFEST
        return parse_manifest(path.read_bytes()) if path.is_file() else None

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files of a package of several, by name; those of its networks are the original ones."""
        folder = self.stages.folder("validate") / _FILES
        return {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}

    def save_package(self, folder: Path, manifest: Manifest, model: onnx.ModelProto) -> ModelPackage:
        """Write a package around `model` under `folder`, with the other files of the original."""
        parts = {name: part.SerializeToString() for name, part in split(manifest, model).items()}
        return ModelPackage.save(folder, manifest, {**self.files, **parts})

    @cached_property
    def inputs(self) -> AudioInputs | None:
        """How recordings go into the network."""
        if self.manifest is not None and self.manifest.ctc is not None:
            return CtcInputs(self.original, self.manifest)
        if self.manifest is not None and self.manifest.moonshine is not None:
            folder = self.stages.folder("validate") / "parent"
            return MoonshineInputs(ModelPackage.save(folder, self.manifest, self.files), self.original, self.threads)
        front_end = None if self.spec.front_end is None else FrontEnd.from_dict(dict(self.spec.front_end))  # type: ignore[arg-type]
        return inputs_for(self.original, self.manifest, front_end)

    @cached_property
    def calibration_feeds(self) -> list[dict[str, Array]]:
        """What goes into the network for the calibration recordings."""
        return self._heard(self.spec.calibration_seconds)

    def _heard(self, seconds: float) -> list[dict[str, Array]]:
        """What goes into the network for so much of the calibration corpora."""
        if self.inputs is None:
            raise CompressionError(NO_FRONT_END)
        folders = [self.calibration.folder(name) for name in self.spec.calibration]
        return feeds(folders, self.inputs, seconds=seconds)[0]

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """The plan of each weight that is compressed."""
        stored = stages.read_json(self.stages.folder("plan") / "plans.json")
        return {name: stages.plan_from_json(fields) for name, fields in stored.items()}

    @cached_property
    def exported(self) -> onnx.ModelProto:
        """The compressed model."""
        return onnx.load(str(self.stages.folder("export") / ORIGINAL))

    def state(self, stage: str) -> State:
        """Compressed weights as the stage `compress` or `fine-tune` left them."""
        layers: dict[str, Compressed] = {}
        changed: dict[str, Array] = {}
        seconds: dict[str, float] = {}
        for path in sorted(self.stages.folder(stage).glob("*.npz")):
            compressed, biases, facts = stages.load_layer(path)
            if facts.get("name"):
                layers[facts["name"]] = compressed
                seconds[facts["name"]] = facts["seconds"]
            changed |= biases
        return State(layers, changed, seconds)

    @property
    def final(self) -> State:
        """The compressed weights after fine-tuning, if there was any."""
        return self.state("fine-tune" if self.spec.fine_tune is not None else "compress")

    def _validate(self, report: Report) -> None:
        folder = self.stages.begin("validate")
        found = inspect(self.folder, threads=self.threads)
        read, normalised, network = found.read, found.normalised, found.network
        report(0.6, "the checkpoint is well formed")
        stages.write(folder / ORIGINAL, read.model.SerializeToString())
        stages.write(folder / _NETWORK, network.model.SerializeToString())
        stages.write_json(folder / "half.json", sorted(normalised.half))
        stages.write_json(folder / _QUANTISED, dict(normalised.quantised))
        if read.files:
            (folder / _FILES).mkdir(exist_ok=True)
        for name, content in read.files.items():
            stages.write(folder / _FILES / name, content)
        if read.manifest is not None:
            stages.write_json(folder / _MANIFEST, read.manifest.model_dump(mode="json"))
        report(0.8, f"{len(network.layers)} weights can be compressed")
        check_sizes(found, self.spec)
        check_front_end(found, self.spec)
        check_fine_tuning(found, self.spec)
        # What is wrong with the corpora or the front end shall come out now, not in an hour.
        for name in self.spec.calibration:
            self.calibration.folder(name)
        for name in self.spec.evaluation:
            self.evaluation.folder(name)

    def _plan(self, report: Report) -> None:
        folder = self.stages.begin("plan")
        if self.spec.budget is None:
            chosen = plans(self.network, self.spec)
        else:
            from models.compression.search import search

            chosen, notes = search(self, report)
            stages.write_json(folder / "notes.json", notes)
        stages.write_json(folder / "plans.json", {name: stages.plan_to_json(plan) for name, plan in chosen.items()})

    def _compress(self, report: Report) -> None:
        folder = self.stages.begin("compress")
        self.compress_into(folder, self.plans, report)

    def compress_into(self, folder: Path, chosen: Mapping[str, Plan], report: Report) -> None:
        """Compress by `chosen`, a file for each weight; weights that have their file already are not done again."""
        calibrator = None
        if self.spec.calibration:
            report(0.0, "reading calibration audio")
            rows = MAX_ROWS if self.spec.fine_tune is None else FEW_ROWS
            calibrator = Calibrator(self.network, self.calibration_feeds, threads=self.threads, max_rows=rows)
        layers: dict[str, Compressed] = {}
        changed: dict[str, Array] = {}
        narrowed = {name: plan for name, plan in chosen.items() if chains.is_chain(plan)}
        if narrowed:
            layers, changed = self._narrow(folder, narrowed, calibrator, report)
        dense = {} if calibrator is None else stored_weights(self.network, layers)
        todo = [layer for layer in self.network.layers if layer.name in chosen and layer.name not in narrowed]
        for index, layer in enumerate(todo):
            path = folder / f"{index:04d}.npz"
            report(index / len(todo), f"{layer.name} by {chosen[layer.name].method}", layer.name)
            if path.is_file():
                compressed, moved, _ = stages.load_layer(path)
            else:
                so_far = partial(with_weights, self.network.model, {**dense, **changed}) if dense else None
                done = compress_layer(self.network, layer, chosen[layer.name], calibrator, so_far, changed)
                compressed, moved = done.compressed, dict(done.changed)
                stages.save_layer(path, compressed, moved, {"name": layer.name, "seconds": done.seconds})
            if calibrator is not None:
                dense[layer.name] = stored_weight(self.network, layer, compressed)
            changed |= moved

    def _narrow(
        self, folder: Path, chosen: Mapping[str, Plan], calibrator: Calibrator | None, report: Report
    ) -> tuple[dict[str, Compressed], dict[str, Array]]:
        """Narrow all chains at once."""
        paths = {name: folder / f"chain{index:04d}.npz" for index, name in enumerate(chosen)}
        if not all(path.is_file() for path in paths.values()):
            report(0.0, f"narrowing {', '.join(chosen)}", next(iter(chosen)))
            start = time.perf_counter()
            done, moved = chains.narrow_chains(self.network, chosen, calibrator)
            facts = {"seconds": (time.perf_counter() - start) / len(done)}
            for index, (name, compressed) in enumerate(done.items()):
                stages.save_layer(paths[name], compressed, {} if index else moved, {"name": name, **facts})
        layers: dict[str, Compressed] = {}
        changed: dict[str, Array] = {}
        for name, path in paths.items():
            layers[name], moved, _ = stages.load_layer(path)
            changed |= moved
        return layers, changed

    def _fine_tune(self, report: Report) -> None:
        folder = self.stages.begin("fine-tune")
        if self.spec.fine_tune is None:
            return
        require_training()
        from models.training.finetune import fine_tune
        from models.training.gradual import compress_gradually, step_plans

        state = self.state("compress")
        wish = self.spec.fine_tune
        report(0.0, "reading calibration audio")
        given = self.calibration_feeds if wish.seconds is None else self._heard(wish.seconds)
        assert self.inputs is not None
        model = chains.with_narrowed(self.network, state.layers, state.changed)
        layers = {name: done for name, done in state.layers.items() if not chains.is_chain(done.plan)}
        common: dict[str, Any] = {
            "parent": self.network.model,
            "epochs": wish.epochs,
            "output": self.inputs.logits,
            "logits": self.inputs.logits is not None,
            "learning_rate": wish.learning_rate,
            "threads": self.threads,
            "progress": lambda part, loss: report(part, _epoch(part, wish.epochs * wish.steps, loss)),
        }
        if wish.steps > 1:
            # The last step has the sizes that were asked for.
            *_, tuned = compress_gradually(model, step_plans(layers, wish.steps), given, **common)
        else:
            tuned = fine_tune(model, layers, given, checkpoint=folder / "progress.pt", **common)
        by_name = {layer.name: layer for layer in self.network.layers}
        wide, narrow = chains.widened(self.network, state.layers, {**state.changed}, tuned.values)
        for index, (name, compressed) in enumerate({**tuned.layers, **narrow}.items()):
            weight = self.network.weight(by_name[name])
            error = relative_error(weight, method(compressed.plan.method).decompress(compressed))
            facts = {"name": name, "seconds": state.seconds[name]}
            stages.save_layer(
                folder / f"{index:04d}.npz", replace(compressed, relative_error=error, output_error=None), {}, facts
            )
        nothing = Compressed(Plan("dense", 1, 1, 0), {}, 0.0)
        stages.save_layer(folder / "other.npz", nothing, wide, {})
        (folder / "progress.pt").unlink(missing_ok=True)
        facts = {"loss": tuned.loss, "before": tuned.before, "after": tuned.after, "epoch": tuned.epoch}
        stages.write_json(folder / "facts.json", {**facts, "history": list(tuned.history)})

    def _export(self, report: Report) -> None:
        folder = self.stages.begin("export")
        state = self.final
        stages.write(folder / ORIGINAL, self.exported_with(state).SerializeToString())

    def exported_with(self, state: State) -> onnx.ModelProto:
        """The model that runs on these compressed weights."""
        model = chains.with_narrowed(self.network, state.layers, state.changed)
        network = Network(model, self.network.layers, self.network.skipped)
        others = {name: done for name, done in state.layers.items() if not chains.is_chain(done.plan)}
        return export(network, others, half=self.half)

    def _parity(self, report: Report) -> None:
        folder = self.stages.begin("parity")
        state = self.final
        reference = approximated(self.network, state.layers, state.changed)
        given, kind = self.sample(_PARITY_RUNS)
        allowed = parity.tolerance({name: compressed.plan for name, compressed in state.layers.items()})
        found = parity.check(self.exported, reference, given, allowed, threads=self.threads)
        report(1.0, f"differs by {found.difference:.1e} of its spread from the reference")
        facts: dict[str, Any] = {
            "difference": found.difference, "tolerance": found.tolerance, "output": found.output, "runs": found.runs,
        }  # fmt: skip
        stages.write_json(folder / "parity.json", {**facts, "inputs": kind})

    def sample(self, count: int) -> tuple[list[dict[str, Array]], str]:
        """Some inputs: recordings where the job has any, otherwise random values; and which."""
        given, _, kind = self.timed_sample(count)
        return given, kind

    def timed_sample(self, count: int) -> tuple[list[dict[str, Array]], list[float] | None, str]:
        """As `sample`, with the seconds of each recording."""
        for corpora, names in ((self.evaluation, self.spec.evaluation), (self.calibration, self.spec.calibration)):
            if names and self.inputs is not None:
                folders = [corpora.folder(name) for name in names]
                made: list[dict[str, Array]] = []
                for folder in folders:
                    made += feeds([folder], self.inputs, limit=-(-count // len(folders)))[0]
                return made, [self.inputs.seconds(feed) for feed in made], "recordings"
        if isinstance(self.inputs, (CtcInputs, MoonshineInputs)):
            return self.inputs.random(min(count, _RANDOM_RUNS)), None, "random"
        return random_feeds(self.original, min(count, _RANDOM_RUNS)), None, "random"

    def _evaluate(self, report: Report) -> None:
        stages.write_json(self.stages.begin("evaluate") / "evaluation.json", evaluate_job(self, report))

    def _gate(self, report: Report) -> None:
        self.stages.begin("gate")
        pack_result(self, self.folder / "result")


def _epoch(part: float, epochs: int, loss: float) -> str:
    return f"fine-tuning, epoch {max(ceil(part * epochs - 1e-6), 1)} of {epochs}, loss {loss:.4f}"
