"""Narrower layers: which inputs or units to keep, and what the layer behind them makes of those that are left.

A unit is worth keeping for what the next layer's output cannot be told without it. With ``H`` the second moments of
the next layer's inputs and ``W`` its weight, the kept inputs S and the refitted weight minimise
``trace((W - V)' · H · (W - V))`` over weights V that read S alone: S is chosen one by one, each the one that lowers the
error most once the weight is refitted (orthogonal least squares: Chen, Cowan and Grant, 1991), and
``V = inverse(H[S, S]) · H[S] · W``. Without data, H is diagonal and a unit counts for the norms of its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from models.compression.base import Calibration, CompressionError, Matrix, SizeError

_RIDGE: Final = 0.01  # units are dropped whole, so that few rows are no temptation to put errors between them

Real = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def select(weight: npt.NDArray[np.floating], moment: Real, count: int, *, taps: int = 1) -> Indices:
    """The `count` units to keep of those that `weight` [taps · units, R] reads, in rising order.

    Args:
        weight: outgoing weight; with several taps the units' rows come tap by tap.
        moment: second moments of its inputs, [taps · units, taps · units], positive definite.
        count: how many units to keep.
        taps: rows that belong to each unit.
    """
    rest = moment.copy()
    response = rest @ weight.astype(np.float64)
    units = len(moment) // taps
    left = np.ones(units, bool)
    floor = 1e-9 * float(np.diag(moment).max())
    chosen = []
    for _ in range(min(count, units)):
        variance = np.maximum(np.diag(rest), floor)
        gains = (np.einsum("qr,qr->q", response, response) / variance).reshape(taps, units).sum(axis=0)
        unit = int(np.argmax(np.where(left, gains, -1.0)))
        chosen.append(unit)
        left[unit] = False
        for row in range(unit, len(moment), units):
            if rest[row, row] <= floor:
                continue
            direction = rest[row] / rest[row, row]
            response -= np.outer(direction, response[row])
            rest -= np.outer(direction, rest[row])
    return np.sort(np.asarray(chosen, np.int64))


def refit(weight: npt.NDArray[np.floating], moment: Real, kept: Indices) -> Real:
    """The weight [len(kept), R] on the rows `kept` that stands best for the whole `weight` [Q, R]."""
    return np.linalg.solve(moment[np.ix_(kept, kept)], moment[kept] @ weight.astype(np.float64)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class ChainLayer:
    """One fully connected layer of a chain.

    Attributes:
        weight: [Q, R]; Q is a multiple of the outputs of the layer before, whose outputs come tap by tap where a
            window of several frames is read.
        bias: [R], if there is one.
    """

    weight: Matrix
    bias: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What goes into a layer of the chain on calibration data.

    Attributes:
        calibration: second moments of the inputs [Q, Q].
        mean: [Q].
    """

    calibration: Calibration
    mean: Real


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """The widths that a chain is narrowed to.

    Attributes:
        widths: outputs of every layer; the last layer keeps all of its own.
        disk_bytes: bytes of the narrowed weights, exactly; biases, which shrink too, are not counted.
        relative_size: by the bytes of the weights as they are.
    """

    widths: tuple[int, ...]
    disk_bytes: int
    relative_size: float


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A narrowed chain.

    Attributes:
        layers: in order.
        kept: for every layer, which of its outputs are left, in rising order.
    """

    layers: tuple[ChainLayer, ...]
    kept: tuple[Indices, ...]


def plan_chain(shapes: Sequence[tuple[int, int]], relative_size: float) -> ChainPlan:
    """Widths whose weights are as large as `relative_size` allows, all hidden layers by about the same share.

    Args:
        shapes: [Q, R] of every layer; Q a multiple of the R before.
        relative_size: wished bytes of all the weights by those they have.

    Raises:
        SizeError: no widths are that small; the message names the reachable range.
        CompressionError: the layers are no chain.
    """
    taps = _taps(shapes)
    full = [R for _, R in shapes]

    def size(widths: Sequence[int]) -> int:
        inputs = (shapes[0][0], *widths[:-1])
        return 4 * sum(t * q * r for t, q, r in zip(taps, inputs, widths, strict=True))

    def widths(share: float) -> list[int]:
        return [*(max(1, min(R, int(R * share))) for R in full[:-1]), full[-1]]

    total = size(full)
    allowed = int(min(max(relative_size, 0.0), 1.0) * total * (1 + 1e-12))
    smallest = size(widths(0.0))
    if smallest > allowed:
        raise SizeError(
            f"same-size cannot narrow {' -> '.join(str(R) for R in (shapes[0][0], *full))} to relative size "
            f"{relative_size:.6g}: it reaches {smallest / total:.6g} to 1"
        )
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if size(widths(middle)) <= allowed else (low, middle)
    chosen = full if size(full) <= allowed else widths(low)
    # What is left over goes to single units, to the layers that gave up most first.
    grown = True
    while grown:
        grown = False
        for layer in sorted(range(len(full) - 1), key=lambda each: chosen[each] / full[each]):
            wider = [width + (index == layer) for index, width in enumerate(chosen)]
            if wider[layer] <= full[layer] and size(wider) <= allowed:
                chosen, grown = wider, True
                break
    return ChainPlan(tuple(chosen), size(chosen), size(chosen) / total)


def narrow(layers: Sequence[ChainLayer], plan: ChainPlan, inputs: Sequence[Inputs | None] | None = None) -> Narrowed:
    """Narrow a feed-forward chain of fully connected layers with elementwise activations between.

    With `inputs` the units are chosen and the next weights refitted for the outputs on that data, with the biases
    taking up the means; without, units with small incoming and outgoing weights go.

    Args:
        layers: the chain.
        plan: from `plan_chain` for the shapes of `layers`.
        inputs: what goes into every layer; those of the first are not used.

    Raises:
        CompressionError: the layers are no chain, or not that of the plan.
    """
    taps = _taps([(int(layer.weight.shape[0]), int(layer.weight.shape[1])) for layer in layers])
    if len(plan.widths) != len(layers) or plan.widths[-1] != layers[-1].weight.shape[1]:
        raise CompressionError(f"a plan for {len(plan.widths)} layers is not one for these {len(layers)}")
    result = [layers[0]]
    kept = []
    for number in range(1, len(layers)):
        before, layer, count = result[-1], layers[number], taps[number]
        given = None if inputs is None else inputs[number]
        units = before.weight.shape[1]
        if given is None:
            incoming = np.tile(np.square(before.weight.astype(np.float64)).sum(axis=0), count)
            moment = np.diag(np.maximum(incoming, 1e-12 * max(float(incoming.max()), 1.0)))
        else:
            centre = np.outer(given.mean, given.mean) if layer.bias is not None else 0.0
            moment = Calibration(given.calibration.moment - centre, given.calibration.rows).damped(_RIDGE)
        chosen = select(layer.weight, moment, plan.widths[number - 1], taps=count)
        rows = (np.arange(count)[:, None] * units + chosen).ravel()
        weight, bias = layer.weight[rows], layer.bias
        if given is not None and len(chosen) < units:
            fitted = refit(layer.weight, moment, rows)
            weight = fitted.astype(np.float32)
            if bias is not None:
                bias = (bias + given.mean @ layer.weight - given.mean[rows] @ fitted).astype(np.float32)
        cut = None if before.bias is None else before.bias[chosen]
        result[-1] = ChainLayer(np.ascontiguousarray(before.weight[:, chosen]), cut)
        result.append(ChainLayer(np.ascontiguousarray(weight), bias))
        kept.append(chosen)
    kept.append(np.arange(plan.widths[-1]))
    return Narrowed(tuple(result), tuple(kept))


def _taps(shapes: Sequence[tuple[int, int]]) -> list[int]:
    """How many frames of the layer before every layer reads."""
    if not shapes:
        raise CompressionError("a chain has at least one layer")
    taps = [1]
    for (_, before), (Q, R) in pairwise(shapes):
        if Q % before:
            raise CompressionError(f"a layer of {Q} x {R} does not follow one with {before} outputs")
        taps.append(Q // before)
    return taps
