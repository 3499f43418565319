"""Deep Compression step by step: prune a little, train, prune more, train, share the values, train what is shared.

Source: Han et al., arXiv 1506.02626 (pruning in turns with training) and arXiv 1510.00149.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import onnx

from models.compression.base import Array, Compressed, Plan
from models.compression.network import with_weights
from models.compression.registry import method
from models.training.finetune import FineTuned, fine_tune
from models.training.onnx_net import OnnxNet

TURNS: Final = (3.0, 1.5, 1.0)
"""Entries kept in each turn of pruning, by those that the plan stores."""

Progress = Callable[[float, float], None]


def compress_gradually(
    model: onnx.ModelProto,
    plans: Mapping[str, Plan],
    feeds: Sequence[Mapping[str, Array]],
    *,
    parent: onnx.ModelProto | None = None,
    turns: Sequence[float] = TURNS,
    epochs: int = 2,
    learning_rate: float = 1e-2,
    batch_rows: int = 512,
    seed: int = 1,
    threads: int = 1,
    progress: Progress | None = None,
) -> FineTuned:
    """Compress weights as planned, with fine-tuning between the steps.

    Args:
        model: the network with dense weights.
        plans: plans of `deep-compression` by the name of the weight.
        feeds: recordings, as of `fine_tune`.
        parent: as of `fine_tune`.
        turns: turns of pruning; each keeps so many times the entries that a plan stores, at most all.
        epochs: passes over the recordings after each turn, and after sharing the values.
        learning_rate: as of `fine_tune`; half of it once values are shared.
        batch_rows: as of `fine_tune`.
        seed: as of `fine_tune`.
        threads: as of `fine_tune`.
        progress: called with the fraction of all steps that is done and the running loss.

    Returns:
        The weights, stored as planned; `before` is the held-out loss before the last step of training.

    Raises:
        CompressionError: as `fine_tune`.
    """
    parent = parent or model
    net = OnnxNet(model)
    dense = {name: net.matrix(name) for name in plans}
    weights, values = dict(dense), dict[str, Array]()
    for turn, times in enumerate([*turns, None]):
        layers = {}
        for name, plan in plans.items():
            chosen = plan if times is None else _pruned(plan, times)
            layers[name] = method(chosen.method).compress(weights[name], chosen)
        tuned = fine_tune(
            with_weights(model, values),
            layers,
            feeds,
            parent=parent,
            epochs=epochs,
            learning_rate=learning_rate / (2 if times is None else 1),
            batch_rows=batch_rows,
            seed=seed,
            threads=threads,
            progress=_part(progress, turn, len(turns) + 1),
        )
        values |= tuned.values
        weights = {name: _dense(compressed) for name, compressed in tuned.layers.items()}
    return replace(tuned, values=values)


def _pruned(plan: Plan, times: float) -> Plan:
    """The plan of `pruned-csr` with so many times the entries."""
    chosen = method("pruned-csr")
    dense = 4 * plan.Q * plan.R
    one, every = (round(size * dense) for size in chosen.sizes(plan.Q, plan.R))
    each = (every - one) // max(plan.Q * plan.R - 1, 1)
    entries = min(round(int(plan.geometry["entries"]) * times), plan.Q * plan.R)
    return chosen.plan(plan.Q, plan.R, (one + each * (entries - 1)) / dense)


def _dense(compressed: Compressed) -> Array:
    return np.ascontiguousarray(method(compressed.plan.method).decompress(compressed))


def _part(progress: Progress | None, turn: int, turns: int) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction, loss: progress((turn + fraction) / turns, loss)
