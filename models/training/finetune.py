"""Fine-tuning of a compressed network: end-to-end distillation from the original one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.compression.base import Array, Compressed, CompressionError, Matrix
from models.training.compressed_weight import CompressedWeight
from models.training.onnx_graph import posterior
from models.training.onnx_net import OnnxNet
from models.training.parametrizations import PickedSparseWeight, parametrization
from models.training.recordings import Recordings, parent_outputs

_WARM_UP = 0.05
_SMALLEST_SCALE = 1e-2
_BACK_OFF = 0.3
_LOGITS = "logits"

Progress = Callable[[float, float], None]
"""Called after each step with the fraction done (0 to 1) and the running loss."""


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fine-tuned network.

    Attributes:
        layers: the compressed weights by name, as many bytes as they were given with.
        values: new values of other initialisers (biases, normalisations, weights left dense) by name, in the type and
            shape that they have in the graph; only those that changed.
        entries: with `pick`, the weights [Q, R] before rounding to shared values.
        loss: what `before` and `after` are: "kl", nats per output row, or "mse", by the variance of the targets.
        before: held-out loss of the weights that were given.
        after: held-out loss of the weights returned, never more than `before`.
        epoch: after how many epochs the returned weights were taken; 0 when training never made them better.
        history: held-out loss after each epoch.
    """

    layers: Mapping[str, Compressed]
    values: Mapping[str, Array]
    entries: Mapping[str, Matrix]
    loss: Literal["kl", "mse"]
    before: float
    after: float
    epoch: int
    history: tuple[float, ...]


def fine_tune(
    model: onnx.ModelProto,
    layers: Mapping[str, Compressed],
    feeds: Sequence[Mapping[str, Array]],
    *,
    parent: onnx.ModelProto | None = None,
    targets: Sequence[Array] | None = None,
    pick: bool = False,
    output: str | None = None,
    logits: bool = False,
    epochs: int = 4,
    learning_rate: float = 2e-2,
    batch_rows: int = 512,
    hold_out: float = 0.1,
    gradient_clip: float = 1.0,
    frozen: Collection[str] = (),
    seed: int = 1,
    threads: int = 1,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> FineTuned:
    """Train the compressed weights, and the dense ones left, towards the outputs of the original network.

    The weights keep their form: factors stay factors, masks and indices stay as they are and a codebook's entry moves
    by the sum of the gradients of its members. The weights that do best on the held-out recordings are returned, those
    that were given included, so that nothing gets worse. An epoch that made them worse is taken back, and the next
    ones take shorter steps.

    Args:
        model: the network with dense weights: the original one, or a narrowed one (then `parent` is the original).
        layers: the compressed weights, by the name of the initialiser in `model` that they stand for. A weight is
            taken as the matrix [Q, R]: that of MatMul and Gemm as it multiplies (so a `transB` one transposed), a
            convolution's kernel [N, ...] as [N, taps] transposed, a GRU's W [1, 3 H, in] or R [1, 3 H, H] transposed.
        feeds: recordings as `InferenceSession.run` takes them, each a value for every input of the graph.
        parent: the network whose outputs are the targets; `model` as it is when None.
        targets: what the output should be for each recording, in its form, instead of the parent's outputs.
        pick: let entries of `deep-compression` learn which shared value they have; they start as `model` has them.
        output: name of the output that counts; the first when None. Where it comes out of a LogSoftmax or Softmax the
            loss is the Kullback-Leibler divergence from the parent's posteriors, otherwise the mean squared error.
        logits: whether that output, where it comes out of neither, has logarithms of posteriors over its last axis but
            for a constant: the loss is then the divergence too.
        epochs: passes over the recordings.
        learning_rate: of Adam at its peak (cosine to zero), by the root mean square of each array of values.
        batch_rows: output rows (all axes but the last) by step, where recordings can be put into one batch.
        hold_out: share of the recordings that chooses among the epochs and is not trained on; at least one, unless
            there is a single recording, which then does both.
        gradient_clip: largest norm of the gradient.
        frozen: initialisers, or weights of `layers`, that stay as they are.
        seed: of the order of the batches; the result is the same for the same seed and number of threads.
        threads: of PyTorch; the caller's setting is put back afterwards.
        checkpoint: file to leave the state in after each epoch, and to go on from if it is there.
        progress: called after each step.

    Returns:
        The new values; `layers` in them have no `output_error`.

    Raises:
        CompressionError: the graph has an operator or a form that cannot be trained (the message names it and what is
            supported), a name in `layers` or `frozen` is not in it, or there is no recording.
    """
    if not feeds:
        raise CompressionError("fine-tuning needs recordings")
    name = output or model.graph.output[0].name
    with _threads(threads):
        student = _Student(model, layers, frozen, name, pick)
        outputs, independent = parent_outputs(parent or model, name, feeds, threads=threads, known=targets)
        objective = _Objective(posterior(model, name) or (_LOGITS if logits else None), outputs, len(feeds))
        held = _held_out(len(feeds), hold_out, seed)
        training, held_out = (
            Recordings([(feeds[i], partial(objective.target, i)) for i in part], independent, batch_rows)
            for part in ([i for i in range(len(feeds)) if i not in held] or held, held)
        )
        run = _Run(student, objective, training, held_out, epochs, learning_rate, gradient_clip, seed)
        stamp = _stamp(model, layers, (epochs, learning_rate, batch_rows, hold_out, gradient_clip, seed, len(feeds)))
        run.train(checkpoint, stamp, progress)
        return FineTuned(
            layers=student.layers(),
            values=student.values(),
            entries=student.entries(),
            loss=objective.name,
            before=run.history[0],
            after=run.history[run.best],
            epoch=run.best,
            history=tuple(run.history[1:]),
        )


class _Objective:
    """The loss of an output against the parent's."""

    def __init__(self, operator: str | None, outputs: Callable[[int], Array], count: int) -> None:
        self.name: Literal["kl", "mse"] = "mse" if operator is None else "kl"
        self._operator, self._outputs = operator, outputs
        self._variance = _variance(map(outputs, range(count))) if operator is None else 1.0

    def target(self, index: int) -> Array:
        """A recording's target as the loss wants it: log posteriors where the output is a distribution."""
        values = self._outputs(index).astype(np.float32)
        if self._operator == "Softmax":
            return np.log(np.maximum(values, 1e-20))
        if self._operator == _LOGITS:
            values = values - values.max(axis=-1, keepdims=True)
            return np.asarray(values - np.log(np.exp(values).sum(axis=-1, keepdims=True)))
        return values

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean over the rows."""
        if self._operator is None:
            return nn.functional.mse_loss(output, target) / self._variance
        log_probs = output
        if self._operator == "Softmax":
            log_probs = output.clamp(min=1e-20).log()
        elif self._operator == _LOGITS:
            log_probs = output.log_softmax(-1)
        return (target.exp() * (target - log_probs)).sum(-1).mean()


def _variance(targets: Iterable[Array]) -> float:
    """Variance of all values, of one recording at a time."""
    count = total = square = 0.0
    for target in targets:
        values = target.astype(np.float64)
        count, total, square = count + values.size, total + values.sum(), square + np.square(values).sum()
    return max(float(square / count - (total / count) ** 2), 1e-30)


class _Student:
    """The network with compressed weights in it, and what it is told apart from the one that was given by."""

    def __init__(
        self, model: onnx.ModelProto, layers: Mapping[str, Compressed], frozen: Collection[str], output: str, pick: bool
    ) -> None:
        self.net = OnnxNet(model)
        if output not in self.net.outputs:
            raise CompressionError(f"the graph has no output {output!r}; its outputs are {', '.join(self.net.outputs)}")
        self.output = output
        self._dense: dict[str, Matrix] = {}
        self._weights: dict[str, CompressedWeight] = {}
        for name, compressed in layers.items():
            dense = self._dense[name] = self.net.matrix(name)
            plan = compressed.plan
            if dense.shape != (plan.Q, plan.R):
                raise CompressionError(f"{name!r} is {dense.shape[0]} x {dense.shape[1]}, not {plan.Q} x {plan.R}")
            inputs_first = self.net.inputs_first(self.net.initialiser(name))
            self._weights[name] = parametrization(
                compressed, self.net.shape(name), inputs_first=inputs_first, pick=pick
            )
            self.net.parametrize(name, self._weights[name])
        for name in frozen:
            for parameter in self.net.trained(name):
                parameter.requires_grad_(False)
        replaced = {self.net.initialiser(name) for name in layers}
        self._others = {name: self.net.value(name) for name in self.net.parameter_names if name not in replaced}

    def run(self, feeds: Mapping[str, Tensor]) -> Tensor:
        """The output that counts."""
        return self.net(feeds, [self.output])[self.output]  # type: ignore[no-any-return]

    def layers(self) -> dict[str, Compressed]:
        """The compressed weights as they are now."""
        return {
            name: weight.finish(self.net.trained(name), self._dense[name]) for name, weight in self._weights.items()
        }

    def entries(self) -> dict[str, Matrix]:
        """Weights before rounding, where entries pick their values."""
        return {
            name: weight.own(self.net.trained(name)[1])
            for name, weight in self._weights.items()
            if isinstance(weight, PickedSparseWeight)
        }

    def values(self) -> dict[str, Array]:
        """Other initialisers that are no longer what they were."""
        present = {name: self.net.value(name) for name in self._others}
        return {name: value for name, value in present.items() if not np.array_equal(value, self._others[name])}


class _Run:
    """The training loop."""

    def __init__(
        self,
        student: _Student,
        objective: _Objective,
        training: Recordings,
        held_out: Recordings,
        epochs: int,
        learning_rate: float,
        gradient_clip: float,
        seed: int,
    ) -> None:
        self.student, self.objective, self.training, self.held_out = student, objective, training, held_out
        self.epochs, self.clip, self.seed = epochs, gradient_clip, seed
        self.parameters = [p for p in student.net.parameters() if p.requires_grad]
        self.rates = [
            learning_rate * max(float(p.detach().square().mean().sqrt()), _SMALLEST_SCALE) for p in self.parameters
        ]
        self.optimiser = self._fresh()
        self.history: list[float] = []
        self.best = 0
        self.kept: dict[str, Any] = {}
        self.share = 1.0

    def train(self, checkpoint: Path | None, stamp: str, progress: Progress | None) -> None:
        """Train to the end, or on from the checkpoint, and take the best weights."""
        if checkpoint is None or not self._resume(checkpoint, stamp):
            self._judge()
        for epoch in range(len(self.history), self.epochs + 1):
            self._epoch(epoch - 1, progress)
            self._judge()
            if self.best != len(self.history) - 1:
                # So near to the parent, the steps were too long: again from the best weights, with shorter ones.
                self.student.net.load_state_dict(self.kept)
                self.share *= _BACK_OFF
                self.optimiser = self._fresh()
            if checkpoint is not None:
                self._save(checkpoint, stamp)
        self.student.net.load_state_dict(self.kept)

    def _epoch(self, epoch: int, progress: Progress | None) -> None:
        steps = self.training.steps()
        running = math.nan
        for number, batch in enumerate(self.training.batches(np.random.default_rng([self.seed, epoch]))):
            self._set_rate((epoch + (number + 0.5) / steps) / self.epochs)
            loss = self.objective.loss(self.student.run(batch.feeds), batch.targets)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
            if torch.isfinite(norm):
                self.optimiser.step()
            value = loss.item()
            running = value if math.isnan(running) else 0.95 * running + 0.05 * value
            if progress is not None:
                progress((epoch + (number + 1) / steps) / self.epochs, running)

    def _set_rate(self, share: float) -> None:
        rise = min(1.0, share / _WARM_UP)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share - _WARM_UP) / (1 - _WARM_UP))))
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * rise * fall * self.share

    def _fresh(self) -> torch.optim.Adam:
        return torch.optim.Adam([{"params": [p]} for p in self.parameters], betas=(0.9, 0.98))

    def _judge(self) -> None:
        total = rows = 0.0
        with torch.no_grad():
            for batch in self.held_out.batches():
                total += batch.rows * float(self.objective.loss(self.student.run(batch.feeds), batch.targets))
                rows += batch.rows
        self.history.append(total / rows)
        if len(self.history) == 1 or self.history[-1] < self.history[self.best]:
            self.best = len(self.history) - 1
            self.kept = {name: value.detach().clone() for name, value in self.student.net.state_dict().items()}

    def _save(self, path: Path, stamp: str) -> None:
        state = {
            "stamp": stamp,
            "history": self.history,
            "best": self.best,
            "kept": self.kept,
            "share": self.share,
            "net": self.student.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def _resume(self, path: Path, stamp: str) -> bool:
        """Whether there was a checkpoint of this very run."""
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True)
        if state["stamp"] != stamp:
            return False
        self.history, self.best, self.kept = state["history"], state["best"], state["kept"]
        self.share = state["share"]
        self.student.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        return True


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads inside the block."""
    earlier = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(earlier)


def _held_out(count: int, share: float, seed: int) -> list[int]:
    """Recordings that are not trained on."""
    kept = min(max(1, round(share * count)), max(1, count - 1))
    return sorted(int(i) for i in np.random.default_rng(seed).permutation(count)[:kept])


def _stamp(model: onnx.ModelProto, layers: Mapping[str, Compressed], settings: object) -> str:
    """What tells one run from another: a checkpoint of another one is of no use."""
    digest = hashlib.sha256(model.SerializeToString())
    for name, compressed in sorted(layers.items()):
        digest.update(f"{name} {compressed.plan.method}".encode())
        for key, array in sorted(compressed.arrays.items()):
            digest.update(key.encode() + np.ascontiguousarray(array).tobytes())
    digest.update(repr(settings).encode())
    return digest.hexdigest()
