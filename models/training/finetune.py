"""Fine-tuning of a compressed network: end-to-end distillation from the original one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from models.compression.base import Array, Compressed

Progress = Callable[[float, float], None]
"""Called after each step with the fraction done (0 to 1) and the running loss."""


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fine-tuned network.

    Attributes:
        layers: the compressed weights by name, as many bytes as they were given with.
        values: new values of other initialisers (biases, normalisations, weights left dense) by name, in the type and
            shape that they have in the graph; only those that changed.
        loss: what `before` and `after` are: "kl", nats per output row, or "mse", by the variance of the targets.
        before: held-out loss of the weights that were given.
        after: held-out loss of the weights returned, never more than `before`.
        epoch: after how many epochs the returned weights were taken; 0 when training never made them better.
        history: held-out loss after each epoch.
    """

    layers: Mapping[str, Compressed]
    values: Mapping[str, Array]
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
    output: str | None = None,
    epochs: int = 4,
    learning_rate: float = 2e-3,
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
    that were given included, so that nothing gets worse.

    Args:
        model: the network with dense weights: the original one, or a narrowed one (then `parent` is the original).
        layers: the compressed weights, by the name of the initialiser in `model` that they stand for. A weight is
            taken as the matrix [Q, R]: that of MatMul and Gemm as it multiplies (so a `transB` one transposed), a
            convolution's kernel [N, ...] as [N, taps] transposed, a GRU's W [1, 3 H, in] or R [1, 3 H, H] transposed.
        feeds: recordings as `InferenceSession.run` takes them, each a value for every input of the graph.
        parent: the network whose outputs are the targets; `model` as it is when None.
        output: name of the output that counts; the first when None. Where it comes out of a LogSoftmax or Softmax the
            loss is the Kullback-Leibler divergence from the parent's posteriors, otherwise the mean squared error.
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
    raise NotImplementedError
