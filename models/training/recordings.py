"""Recordings and the targets that a parent gives them, in batches that fine-tuning can train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor

from models.compression.base import Array, CompressionError
from ops.library import session

Feeds = Mapping[str, Array]

_TRIAL_ROWS: Final = 16
_KEPT: Final = 256 << 20  # bytes of outputs of a parent; of a vocabulary, one recording's may be ten megabytes


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

    def __init__(
        self,
        recordings: Sequence[tuple[Feeds, Callable[[], Array]]],
        pooled: bool,
        batch_rows: int,
    ) -> None:
        """`recordings`: what goes in, and what gives its target; `pooled`: whether the entries are independent."""
        self._alone = () if pooled else recordings
        groups: dict[object, list[tuple[Feeds, Array]]] = {}
        for feed, made in recordings if pooled else ():
            target = made()
            shapes = (*((name, value.shape[1:]) for name, value in feed.items()), target.shape[1:])
            groups.setdefault(shapes, []).append((feed, target))
        self._pools = [
            (
                {name: np.concatenate([feed[name] for feed, _ in members]) for name in members[0][0]},
                np.concatenate([target for _, target in members]),
            )
            for members in groups.values()
        ]
        self._batch_rows = batch_rows

    def batches(self, rng: np.random.Generator | None = None) -> Iterator[Batch]:
        """All entries once, in random order if there is an `rng`."""
        plan: list[tuple[int, npt.NDArray[np.int64] | None]] = [(number, None) for number in range(len(self._alone))]
        for number, (_, target) in enumerate(self._pools):
            order = np.arange(len(target)) if rng is None else rng.permutation(len(target))
            count = max(1, round(len(order) * _rows(target) / len(target) / self._batch_rows))
            plan.extend((number, part) for part in np.array_split(order, count) if len(part))
        for place in range(len(plan)) if rng is None else rng.permutation(len(plan)):
            number, chosen = plan[place]
            if chosen is None:
                feeds, made = self._alone[number]
                target = made()
            else:
                pool, target = self._pools[number]
                feeds, target = {name: value[chosen] for name, value in pool.items()}, target[chosen]
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
            yield Batch(tensors, torch.from_numpy(np.ascontiguousarray(target)), _rows(target))

    def steps(self) -> int:
        """How many batches there are."""
        pooled = (min(len(target), max(1, round(_rows(target) / self._batch_rows))) for _, target in self._pools)
        return len(self._alone) + sum(pooled)


class ParentOutputs:
    """The parent's output for each recording, worked out when it is asked for; the first ones are kept."""

    def __init__(self, running: onnxruntime.InferenceSession, output: str, feeds: Sequence[Feeds]) -> None:
        self._running, self._output, self._feeds = running, output, feeds
        self._kept: dict[int, Array] = {}
        self._bytes = 0

    def __call__(self, index: int) -> Array:
        """The output for a recording.

        Raises:
            CompressionError: it does not fit the graph.
        """
        if index in self._kept:
            return self._kept[index]
        try:
            (result,) = self._running.run([self._output], dict(self._feeds[index]))
        except Exception as error:  # ONNX Runtime's errors have no common base besides this
            raise CompressionError(f"a recording does not fit the network: {error}") from error
        made = np.asarray(result)
        if self._bytes + made.nbytes <= _KEPT:
            self._kept[index] = made
            self._bytes += made.nbytes
        return made


def parent_outputs(
    parent: onnx.ModelProto, output: str, feeds: Sequence[Feeds], *, threads: int, known: Sequence[Array] | None = None
) -> tuple[Callable[[int], Array], bool]:
    """What gives the parent's `output` for a recording, and whether it treats the first axis' entries independently.

    Where the outputs are `known`, they are not computed again.

    Raises:
        CompressionError: a recording does not fit the graph.
    """
    running = session(parent.SerializeToString(), threads=threads)
    outputs = ParentOutputs(running, output, feeds) if known is None else known.__getitem__
    outputs(0)  # what does not fit shall come out now
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
