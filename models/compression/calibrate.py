"""What the layers' inputs look like on calibration data, in the original network and behind compressed layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from models.compression.base import Array, Calibration, Matrix, damping
from models.compression.bodies import Place, reads
from models.compression.cutting import cut, tap
from models.compression.directions import RECURRENT
from models.compression.feeds import Feed
from models.compression.folding import attributes
from models.compression.network import LOOKED_UP, Layer, Network
from models.compression.unfold import unfold
from ops import library

Real = npt.NDArray[np.float64]
_Seen = Callable[[Mapping[str, Array]], npt.NDArray[np.float32]]

MAX_ROWS: Final = 20_000
"""Input rows of one layer that are looked at; further ones are left out evenly."""

FEW_ROWS: Final = 6_000
"""Enough where fine-tuning follows, which takes care of what these leave open."""

_BLOCK: Final = 4096
_CODES: Final = 255  # steps of 8 bits
_MAX_KEPT: Final = 128 << 20  # bytes of what is kept between layers, of either network


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments of a layer's inputs, in the original network (o) and behind compressed layers (c).

    Attributes:
        rows: how many rows were averaged.
        mean_o: [Q].
        mean_c: [Q].
        oo: [Q, Q], mean of ``x_o' · x_o``.
        cc: [Q, Q], mean of ``x_c' · x_c``.
        co: [Q, Q], mean of ``x_c' · x_o``.
        rounding: mean squared error of an input in the original network, where each recording's inputs are rounded to
            8 bits over their range and zero.
    """

    rows: int
    mean_o: Real
    mean_c: Real
    oo: Real
    cc: Real
    co: Real
    rounding: float = 0.0

    def centred(self) -> Moments:
        """The moments about the means: what is left for the weight where a bias is there to take up the means."""
        zero = np.zeros_like(self.mean_o)
        return Moments(
            self.rows,
            zero,
            zero,
            self.oo - np.outer(self.mean_o, self.mean_o),
            self.cc - np.outer(self.mean_c, self.mean_c),
            self.co - np.outer(self.mean_c, self.mean_o),
            self.rounding,
        )

    def target(self, weight: Matrix) -> Matrix:
        """The weight that, on the inputs behind compressed layers, comes closest to the original layer's outputs.

        It solves ``(cc + e·1) · V = co · W + e·W``: least squares, drawn towards `weight` where the data say nothing.
        """
        extra = damping(self.rows, len(self.cc)) * max(float(np.trace(self.cc)) / len(self.cc), 1e-12)
        W = weight.astype(np.float64)
        regular = self.cc + extra * np.eye(len(self.cc))
        solved: Matrix = np.linalg.solve(regular, self.co @ W + extra * W).astype(np.float32)
        return solved

    def calibration(self) -> Calibration:
        """What methods are given."""
        return Calibration(self.cc, self.rows)

    def output_error(self, weight: Matrix, approximation: Matrix) -> float:
        """Root of the mean squared error of the layer's output, inputs and weight compressed, by that of the output."""
        W, V = weight.astype(np.float64), approximation.astype(np.float64)
        total = float(np.einsum("qr,qr->", W, self.oo @ W))
        error = total - 2 * float(np.einsum("qr,qr->", V, self.co @ W)) + float(np.einsum("qr,qr->", V, self.cc @ V))
        return float(np.sqrt(max(error, 0.0) / total)) if total > 0 else float(error > 0)

    def rounded_error(self, weight: Matrix, approximation: Matrix) -> float:
        """Error of the layer's output by rounding its inputs to 8 bits, by the output; `rounding` says how."""
        W = weight.astype(np.float64)
        total = float(np.einsum("qr,qr->", W, self.oo @ W))
        error = self.rounding * float(np.square(approximation.astype(np.float64)).sum())
        return float(np.sqrt(error / total)) if total > 0 else float(error > 0)

    def bias_change(self, weight: Matrix, approximation: Matrix) -> npt.NDArray[np.float32]:
        """What to add to the bias so that the mean output is that of the original layer."""
        change: npt.NDArray[np.float32] = (self.mean_o @ weight - self.mean_c @ approximation).astype(np.float32)
        return change


class Calibrator:
    """Runs the original and the partly compressed network on calibration data.

    Layers are asked for in the order in which data passes them. What the part that is behind them gave is kept, so that
    no part of the network runs more than a few times, however many layers it has.
    """

    def __init__(self, network: Network, feeds: Sequence[Feed], *, threads: int = 1, max_rows: int = MAX_ROWS) -> None:
        """`feeds`: what goes into the network, one for each recording."""
        self._network = network
        self._feeds = feeds
        self._threads = threads
        self._max_rows = max_rows
        self._reached = _Reached(0, {}, None)
        self._last: tuple[tuple[object, ...], Moments] | None = None

    def moments(self, layer: Layer, so_far: Callable[[], onnx.ModelProto] | None) -> Moments:
        """Moments of the inputs of `layer`; `so_far` makes the network with the weights so far, None: all original."""
        # Branches that read the same value see the same rows.
        alike = {(*_inputs_of(layer, place.node), _form(place.node)): place for place in self._network.places(layer)}
        places = [*alike.values()]
        values = sorted({name for place in places for name in _inputs_of(layer, place.node)})
        key = (*values, layer.op, layer.operand, layer.shape if layer.op == "Conv" else layer.Q, so_far is None)
        # Layers that share their inputs follow one another, and none of them changes what goes into the next.
        if self._last is None or self._last[0] != key:
            self._last = (key, self._measured(layer, places, values, so_far))
        return self._last[1]

    def _measured(
        self,
        layer: Layer,
        places: Sequence[Place],
        values: Sequence[str],
        so_far: Callable[[], onnx.ModelProto] | None,
    ) -> Moments:
        Q = layer.Q
        if layer.op == LOOKED_UP or not self._feeds:
            nothing, none = np.zeros(Q), np.zeros((Q, Q))
            return Moments(0, nothing, nothing, none, none, none)
        sums = [np.zeros(Q), np.zeros(Q), np.zeros((Q, Q)), np.zeros((Q, Q)), np.zeros((Q, Q))]
        rows, rounding = 0, 0.0

        def seen(run: Mapping[str, Array]) -> npt.NDArray[np.float32]:
            return np.concatenate([_as_rows(layer, place, run) for place in places])

        original, partly = self._parts(places, values, None if so_far is None else so_far(), seen)
        chosen, share = self._thinned(len(seen(original.run(0))))
        for index in chosen:
            before = seen(original.run(index))
            after = before if partly is None else seen(partly.run(index))
            step = (max(float(before.max(initial=0)), 0.0) - min(float(before.min(initial=0)), 0.0)) / _CODES
            if share < 1.0:
                kept = np.random.default_rng(index).random(len(before)) < share
                before, after = before[kept], after[kept]
            rounding += len(before) * step**2 / 12
            for start in range(0, len(before), _BLOCK):
                o, c = before[start : start + _BLOCK], after[start : start + _BLOCK]
                rows += len(o)
                sums[0] += o.sum(axis=0, dtype=np.float64)
                sums[2] += o.T @ o
                if partly is not None:
                    sums[1] += c.sum(axis=0, dtype=np.float64)
                    sums[3] += c.T @ c
                    sums[4] += c.T @ o
        if partly is None:
            sums[1], sums[3], sums[4] = sums[0], sums[2], sums[2]
        mean_o, mean_c, oo, cc, co = (each / max(rows, 1) for each in sums)
        return Moments(rows, mean_o, mean_c, oo, cc, co, rounding / max(rows, 1))

    def _thinned(self, first: int) -> tuple[list[int], float]:
        """Recordings to look at, and the share of their rows, where the first has `first`: half the rows of twice as
        many as would do by themselves, since more recordings are more voices."""
        expected = first / _entries(self._feeds[0]) * sum(map(_entries, self._feeds))
        wanted = min(1.0, self._max_rows / max(expected, 1))
        count = min(len(self._feeds), ceil(2 * wanted * len(self._feeds)))
        chosen = [index * len(self._feeds) // count for index in range(count)]
        return chosen, wanted * len(self._feeds) / count

    def _parts(
        self, places: Sequence[Place], values: Sequence[str], compressed: onnx.ModelProto | None, seen: _Seen
    ) -> tuple[_Part, _Part | None]:
        """What gives `values`, which the nodes at `places` read, in both networks."""
        top = min(place.top for place in places)
        if top < self._reached.top or (compressed is None and self._reached.partly is not None):
            self._reached = _Reached(0, {}, None)
        if top > self._reached.top:
            # What a layer reads in a body, or makes itself, is not known yet at its node.
            open_ = not any(place.inside or set(values) & set(place.node.output) for place in places)
            self._advance(top, compressed, seen if open_ else None)
        original = _Part(self._network.model, values, self._feeds, self._reached.original, self._threads)
        if compressed is None:
            return original, None
        known = self._reached.original if self._reached.partly is None else self._reached.partly
        return original, _Part(compressed, values, self._feeds, known, self._threads)

    def _advance(self, top: int, compressed: onnx.ModelProto | None, seen: _Seen | None) -> None:
        """Keep what reaches node `top`, unless that is too much; `seen` makes the rows of its layer of that, if it can.

        Recordings that the layer does not need are not run.
        """
        graph, before = self._network.model.graph, self._reached
        made = {name for node in graph.node[:top] for name in node.output if name}
        live = sorted(made & set().union(*(reads(node) for node in graph.node[top:])))
        part = _Part(self._network.model, live, self._feeds, before.original, self._threads, typed=False)
        first = part.run(0)
        chosen = range(len(self._feeds)) if seen is None else self._thinned(len(seen({**self._feeds[0], **first})))[0]
        if (
            sum(value.nbytes for value in first.values())
            / _entries(self._feeds[0])
            * sum(_entries(self._feeds[index]) for index in chosen)
            > _MAX_KEPT
        ):
            return
        original = {index: part.run(index) if index else first for index in chosen}
        partly = None
        if compressed is not None:
            known = before.original if before.partly is None else before.partly
            part = _Part(compressed, live, self._feeds, known, self._threads, typed=False)
            partly = {index: part.run(index) for index in chosen}
        self._reached = _Reached(top, original, partly)


@dataclass(frozen=True, slots=True)
class _Reached:
    """What is known at a node of the outermost graph.

    Attributes:
        top: index of the node.
        original: for each recording, the inputs of the network and what the nodes before gave.
        partly: the same in the network that is compressed so far; None while nothing before the node is.
    """

    top: int
    original: Mapping[int, Feed]
    partly: Mapping[int, Feed] | None


class _Part:
    """The part of a network that some values need, behind those that are known already."""

    def __init__(
        self,
        model: onnx.ModelProto,
        values: Sequence[str],
        feeds: Sequence[Feed],
        known: Mapping[int, Feed],
        threads: int,
        *,
        typed: bool = True,
    ) -> None:
        """`known`: what is known besides the inputs, by recording; `typed`: whether all values are floats."""
        self._values, self._feeds, self._known = values, feeds, known
        self._make = partial(_Runner, model, threads=threads, typed=typed)
        self._runners: dict[bool, _Runner] = {}

    def run(self, index: int) -> dict[str, Array]:
        """The values for one recording."""
        ahead = self._known.get(index)
        feed = {**self._feeds[index], **(ahead or {})}
        runner = self._runners.get(ahead is not None)
        if runner is None:
            runner = self._runners[ahead is not None] = self._make(self._values, feed, given=ahead or {})
        return runner.run(feed)


class _Runner:
    """A session of the part of `model` that gives `values`, from feeds like `feed`, of which `given` are no inputs."""

    def __init__(
        self, model: onnx.ModelProto, values: Sequence[str], feed: Feed, *, given: Feed, threads: int, typed: bool
    ) -> None:
        self._given = [name for name in values if name in feed]
        computed = [name for name in values if name not in feed]
        self._names: dict[str, str] = {}
        self._session = None
        if computed:
            kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in given.items()}
            part = cut(model, computed, None if typed else dict.fromkeys(computed), kinds)
            self._session = library.session(part.SerializeToString(), threads=threads)
            outputs = {value.name for value in part.graph.output}
            self._names = {name if name in outputs else tap(name): name for name in computed}
            self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, feed: Feed) -> dict[str, Array]:
        got = {name: np.asarray(feed[name]) for name in self._given}
        if self._session is not None:
            needed = {name: value for name, value in feed.items() if name in self._inputs}
            found = self._session.run([*self._names], needed)
            got.update(zip(self._names.values(), found, strict=True))
        return got


def _entries(feed: Feed) -> int:
    return sum(np.asarray(value).size for value in feed.values())


def _form(node: onnx.NodeProto) -> str:
    return str(sorted(attributes(node).items()))


def _inputs_of(layer: Layer, node: onnx.NodeProto) -> list[str]:
    if layer.op in RECURRENT and layer.operand == 2:
        return [node.output[0], *([node.input[5]] if len(node.input) > 5 and node.input[5] else [])]
    return [node.input[0]]


def _as_rows(layer: Layer, place: Place, got: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    """Rows [rows, Q] that go into the layer at one place; none where it did not run."""
    names = _inputs_of(layer, place.node)
    if place.inside and any(not got[name].size for name in names):
        return np.zeros((0, layer.Q), np.float32)
    if place.loops:
        # In front are the runs of the loop.
        runs = [dict(zip(names, each, strict=True)) for each in zip(*(got[name] for name in names), strict=True)]
        inner = Place(place.node, place.graph, place.top, place.loops - 1, place.inside)
        return np.concatenate([_as_rows(layer, inner, run) for run in runs])
    x, node = got[names[0]], place.node
    if layer.op == "Conv":
        return unfold(x, layer.shape, attributes(node)).astype(np.float32, copy=False)
    if layer.op == "Gemm" and attributes(node).get("transA", 0):
        x = x.T
    if layer.op in RECURRENT and layer.operand == 2:
        # The recurrent weight multiplies the state before each step: the initial one, then all outputs but the last.
        states = x[:, 0]
        given = got.get(node.input[5]) if len(node.input) > 5 and node.input[5] else None
        first = np.zeros_like(states[:1]) if given is None else given
        x = np.concatenate([first, states[:-1]])
    return np.ascontiguousarray(x, np.float32).reshape(-1, layer.Q)
