"""Deep Compression in steps: prune and share a little, train, prune more of what came of it, train again.

Source: Han et al., arXiv 1506.02626 (pruning in turns with training) and arXiv 1510.00149. Unlike there, values are
shared from the first step on, and entries learn which of them they have (`PickedSparseWeight`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from models.compression.base import Array, Compressed, Matrix, Plan
from models.compression.network import with_weights
from models.compression.registry import method
from models.training.finetune import FineTuned, fine_tune
from models.training.onnx_net import OnnxNet

Progress = Callable[[float, float], None]

# What one step leaves of the bytes: the steps that were measured (docs/compression.md) took as much.
_STEP = 0.57


def step_plans(layers: Mapping[str, Compressed], steps: int) -> list[dict[str, Plan]]:
    """Plans for `compress_gradually` that end in those of `layers`, in so many steps of one ratio."""
    found = []
    for left in reversed(range(1, steps)):
        each = {}
        for name, done in layers.items():
            plan, chosen = done.plan, method(done.plan.method)
            largest = chosen.sizes(plan.Q, plan.R)[1]
            each[name] = chosen.plan(plan.Q, plan.R, min(plan.relative_size / _STEP**left, largest))
        found.append(each)
    return [*found, {name: done.plan for name, done in layers.items()}]


def compress_gradually(
    model: onnx.ModelProto,
    steps: Sequence[Mapping[str, Plan]],
    feeds: Sequence[Mapping[str, Array]],
    *,
    parent: onnx.ModelProto | None = None,
    targets: Sequence[Array] | None = None,
    output: str | None = None,
    logits: bool = False,
    epochs: int = 2,
    learning_rate: float = 1e-2,
    batch_rows: int = 512,
    seed: int = 1,
    threads: int = 1,
    progress: Progress | None = None,
) -> Iterator[FineTuned]:
    """Compress weights in steps, with fine-tuning after each.

    Args:
        model: the network with dense weights.
        steps: plans of `deep-compression` by the name of the weight, each step's smaller than those of the one before.
        feeds: recordings, as of `fine_tune`.
        parent: as of `fine_tune`.
        targets: as of `fine_tune`.
        output: as of `fine_tune`.
        logits: as of `fine_tune`.
        epochs: passes over the recordings after each step.
        learning_rate: as of `fine_tune`.
        batch_rows: as of `fine_tune`.
        seed: as of `fine_tune`.
        threads: as of `fine_tune`.
        progress: called with the fraction of all steps that is done and the running loss.

    Yields:
        The network after each step; `values` are all that differ from `model`, and `before` is the held-out loss before
        the training of that step.

    Raises:
        CompressionError: as `fine_tune`.
    """
    parent = parent or model
    net = OnnxNet(model)
    weights = {name: net.matrix(name) for name in steps[0]}
    values: dict[str, Array] = {}
    for number, plans in enumerate(steps):
        layers = {name: method(plan.method).compress(weights[name], plan) for name, plan in plans.items()}
        tuned = fine_tune(
            with_weights(model, {**values, **{name: _stored(net, name, weight) for name, weight in weights.items()}}),
            layers,
            feeds,
            parent=parent,
            targets=targets,
            pick=True,
            output=output,
            logits=logits,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_rows=batch_rows,
            seed=seed + number,
            threads=threads,
            progress=_part(progress, number, len(steps)),
        )
        values |= tuned.values
        weights = dict(tuned.entries)
        yield replace(tuned, values=dict(values))


def _stored(net: OnnxNet, name: str, weight: Matrix) -> Array:
    return weight if net.inputs_first(name) else np.ascontiguousarray(weight.T).reshape(net.shape(name))


def _part(progress: Progress | None, step: int, steps: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction, loss: progress((step + fraction) / steps, loss)
