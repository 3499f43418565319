"""Recordings and the targets that a parent gives them, in batches that fine-tuning can train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor

from models.compression.base import Array, CompressionError
from ops.library import session

Feeds = Mapping[str, Array]

_TRIAL_ROWS = 16


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step is computed on.

    Attributes:
        feeds: values of the graph's inputs.
        targets: what the output should be.
        rows: output rows, which is what its loss counts for.
    """

    feeds: Mapping[str, Tensor]
    targets: Tensor
    rows: int


class Recordings:
    """Recordings with targets.

    Where the network treats the entries of the first axis of its inputs independently (frames, or recordings of one
    length), recordings of the same shape are put together and batches take any of their entries, in random order;
    otherwise each recording is a batch of its own.
    """

    def __init__(self, feeds: Sequence[Feeds], targets: Sequence[Array], pooled: bool, batch_rows: int) -> None:
        """`targets` are the parent's outputs for `feeds`; `pooled` is what `independent` says of the network."""
        groups: dict[object, list[int]] = {}
        for number, (feed, target) in enumerate(zip(feeds, targets, strict=True)):
            shapes = (*((name, value.shape[1:]) for name, value in feed.items()), target.shape[1:])
            groups.setdefault(shapes if pooled else number, []).append(number)
        self._pools: list[tuple[dict[str, Array], Array]] = []
        for members in groups.values():
            names = feeds[members[0]]
            joined = {name: np.concatenate([feeds[i][name] for i in members]) for name in names} if pooled else names
            target = np.concatenate([targets[i] for i in members])
            self._pools.append((dict(joined), target))
        self._pooled = pooled
        self._batch_rows = batch_rows
        self.rows = sum(_rows(target) for _, target in self._pools)

    def batches(self, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """All entries once, in random order if there is an `rng`."""
        plan: list[tuple[int, npt.NDArray[np.int64] | None]] = []
        for number, (_, target) in enumerate(self._pools):
            if not self._pooled:
                plan.append((number, None))
                continue
            order = np.arange(len(target)) if rng is None else rng.permutation(len(target))
            count = max(1, round(len(order) * _rows(target) / len(target) / self._batch_rows))
            plan.extend((number, part) for part in np.array_split(order, count) if len(part))
        for place in range(len(plan)) if rng is None else rng.permutation(len(plan)):
            number, chosen = plan[place]
            feeds, target = self._pools[number]
            if chosen is not None:
                feeds, target = {name: value[chosen] for name, value in feeds.items()}, target[chosen]
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
            yield Batch(tensors, torch.from_numpy(np.ascontiguousarray(target)), _rows(target))

    def steps(self) -> int:
        """How many batches there are."""
        if not self._pooled:
            return len(self._pools)
        return sum(min(len(target), max(1, round(_rows(target) / self._batch_rows))) for _, target in self._pools)


def parent_outputs(
    parent: onnx.ModelProto, output: str, feeds: Sequence[Feeds], *, threads: int, known: Sequence[Array] | None = None
) -> tuple[list[Array], bool]:
    """The parent's `output` for every recording, and whether it treats the first axis' entries independently.

    Where the outputs are `known`, they are not computed again.

    Raises:
        CompressionError: a recording does not fit the graph.
    """
    running = session(parent.SerializeToString(), threads=threads)

    def run(feed: Feeds) -> Array:
        try:
            (result,) = running.run([output], dict(feed))
        except Exception as error:  # ONNX Runtime's errors have no common base besides this
            raise CompressionError(f"a recording does not fit the network: {error}") from error
        return np.asarray(result)

    outputs = [run(feed) for feed in feeds] if known is None else list(known)
    return outputs, _independent(running, output, feeds[0])


def _independent(running: onnxruntime.InferenceSession, output: str, feed: Feeds) -> bool:
    """Whether two inputs put together along the first axis give their two outputs put together."""
    first = {name: value[:_TRIAL_ROWS] for name, value in feed.items()}
    second = {name: value[::-1] * value.dtype.type(0.5) for name, value in first.items()}
    if len({len(value) if value.ndim else 0 for value in feed.values()} | {0}) != 2:
        return False
    joined = {name: np.concatenate([first[name], second[name]]) for name in first}
    try:
        parts = [np.asarray(running.run([output], part)[0]) for part in (first, second)]
        whole = np.asarray(running.run([output], joined)[0])
    except Exception:  # a fixed first axis, for one
        return False
    together = np.concatenate(parts)
    return (
        all(len(part) == len(next(iter(first.values()))) for part in parts)
        and whole.shape == together.shape
        and bool(np.allclose(whole, together, atol=1e-4 * float(np.abs(together).max() + 1), rtol=1e-3))
    )


def _rows(target: Array) -> int:
    return int(np.prod(target.shape[:-1]))
