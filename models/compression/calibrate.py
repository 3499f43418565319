"""What the layers' inputs look like on calibration data, in the original network and behind compressed layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from models.compression.base import Array, Calibration, Matrix
from models.compression.directions import RECURRENT
from models.compression.feeds import Feed
from models.compression.network import Layer, Network, cut
from models.compression.normalise import attributes
from models.compression.unfold import unfold
from ops import library

Real = npt.NDArray[np.float64]

MAX_ROWS: Final = 20_000
"""Input rows of one layer that are looked at; further ones are left out evenly."""

FEW_ROWS: Final = 6_000
"""Enough where fine-tuning follows, which takes care of what these leave open."""

_DAMPING: Final = 0.01  # share of the mean variance, as elsewhere
_BLOCK: Final = 4096


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
    """

    rows: int
    mean_o: Real
    mean_c: Real
    oo: Real
    cc: Real
    co: Real

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
        )

    def target(self, weight: Matrix) -> Matrix:
        """The weight that, on the inputs behind compressed layers, comes closest to the original layer's outputs.

        It solves ``(cc + e·1) · V = co · W + e·W``: least squares, drawn towards `weight` where the data say nothing.
        """
        extra = _DAMPING * max(float(np.trace(self.cc)) / len(self.cc), 1e-12)
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

    def bias_change(self, weight: Matrix, approximation: Matrix) -> npt.NDArray[np.float32]:
        """What to add to the bias so that the mean output is that of the original layer."""
        change: npt.NDArray[np.float32] = (self.mean_o @ weight - self.mean_c @ approximation).astype(np.float32)
        return change


class Calibrator:
    """Runs the original and the partly compressed network on calibration data."""

    def __init__(self, network: Network, feeds: Sequence[Feed], *, threads: int = 1, max_rows: int = MAX_ROWS) -> None:
        """`feeds`: what goes into the network, one for each recording."""
        self._network = network
        self._feeds = feeds
        self._threads = threads
        self._max_rows = max_rows

    def moments(self, layer: Layer, compressed: onnx.ModelProto | None) -> Moments:
        """Moments of the inputs of `layer`; `compressed` is the network with the weights so far, None: all original."""
        Q = layer.Q
        sums = [np.zeros(Q), np.zeros(Q), np.zeros((Q, Q)), np.zeros((Q, Q)), np.zeros((Q, Q))]
        rows = 0
        values = sorted({name for node in self._network.nodes(layer) for name in _inputs_of(layer, node)})
        original = self._session(self._network.model, values)
        partly = None if compressed is None else self._session(compressed, values)
        feeds, share = self._thinned(original, layer, values)
        for index, feed in enumerate(feeds):
            before = self._rows(original, layer, values, feed)
            after = before if partly is None else self._rows(partly, layer, values, feed)
            if share < 1.0:
                chosen = np.random.default_rng(index).random(len(before)) < share
                before, after = before[chosen], after[chosen]
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
        return Moments(rows, mean_o, mean_c, oo, cc, co)

    def _thinned(self, session: _Prefix, layer: Layer, values: Sequence[str]) -> tuple[list[Feed], float]:
        """Recordings to look at, and the share of their rows: half the rows of twice as many as would do by themselves,
        since more recordings are more voices."""
        if not self._feeds:
            return [], 1.0
        first = self._feeds[0]
        expected = len(self._rows(session, layer, values, first)) / _entries(first) * sum(map(_entries, self._feeds))
        wanted = min(1.0, self._max_rows / max(expected, 1))
        count = min(len(self._feeds), ceil(2 * wanted * len(self._feeds)))
        chosen = [self._feeds[index * len(self._feeds) // count] for index in range(count)]
        return chosen, wanted * len(self._feeds) / count

    def _session(self, model: onnx.ModelProto, values: Sequence[str]) -> _Prefix:
        return _Prefix(model, values, self._threads)

    def _rows(self, session: _Prefix, layer: Layer, values: Sequence[str], feed: Feed) -> npt.NDArray[np.float32]:
        got = session.run(feed)
        parts = [_as_rows(layer, node, got) for node in self._network.nodes(layer)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Prefix:
    """The part of a network that some values need."""

    def __init__(self, model: onnx.ModelProto, values: Sequence[str], threads: int) -> None:
        given = {value.name for value in model.graph.input}
        self._given = [name for name in values if name in given]
        self._computed = [name for name in values if name not in given]
        self._session = None
        if self._computed:
            part = cut(model, self._computed)
            self._session = library.session(part.SerializeToString(), threads=threads)
            self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, feed: Feed) -> dict[str, Array]:
        got = {name: feed[name] for name in self._given}
        if self._session is not None:
            needed = {name: value for name, value in feed.items() if name in self._inputs}
            got.update(zip(self._computed, self._session.run(self._computed, needed), strict=True))
        return got


def _entries(feed: Feed) -> int:
    return sum(np.asarray(value).size for value in feed.values())


def _inputs_of(layer: Layer, node: onnx.NodeProto) -> list[str]:
    if layer.op in RECURRENT and layer.operand == 2:
        return [node.output[0], *([node.input[5]] if len(node.input) > 5 and node.input[5] else [])]
    return [node.input[0]]


def _as_rows(layer: Layer, node: onnx.NodeProto, got: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    x = got[_inputs_of(layer, node)[0]]
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
