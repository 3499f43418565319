"""Few shared values instead of a weight's own: how to choose them, and which of them stands for which entry.

Values are clustered in one dimension, each with its own weight if need be (k-means as in Han et al., "Deep
Compression", arXiv 1510.00149). With a price on the bits of an index, the clusters are those of entropy-constrained
quantisation (Chou, Lookabaugh and Gray, 1989): an entry goes to the value that is cheapest in error *and* index. On
calibration data, rounding lets the entries of an output make up for each other's errors (`rounding`), and the values
are refitted by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import kmeans1d
import numpy as np
import numpy.typing as npt

from models.compression.rounding import Moment, Rows, compensate, descend
from ops.packing import packed_bytes

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.uint8]

_GROUPS: Final = 4096
_LLOYD: Final = 50
_CONJUGATE: Final = 8


@dataclass(frozen=True, slots=True)
class Codebook:
    """Shared values and what the use of each costs.

    Attributes:
        levels: float32 [K], ascending.
        prices: float64 [K], what an index costs in units of weighted squared error; all zero: only errors count.
    """

    levels: npt.NDArray[np.float32]
    prices: Values

    def indices(self, wished: npt.NDArray[Any], curvature: float | Values = 1.0) -> Indices:
        """The index of the cheapest value for each of `wished`, where an error e costs ``curvature * e²``."""
        if not self.prices.any():
            middles = (self.levels[1:] + self.levels[:-1]) / 2
            return np.searchsorted(middles, wished).astype(np.uint8)
        weights = np.broadcast_to(np.asarray(curvature, np.float64), wished.shape)
        best = np.full(wished.shape, np.inf)
        chosen = np.zeros(wished.shape, np.uint8)
        for index in np.flatnonzero(np.isfinite(self.prices)):
            cost = weights * np.square(wished - self.levels[index]) + self.prices[index]
            better = cost < best
            best[better] = cost[better]
            chosen[better] = index
        return chosen


def fit(
    values: npt.NDArray[Any], count: int, weights: npt.NDArray[Any] | None = None, *, lagrangian: float = 0.0
) -> Codebook:
    """The `count` values that stand for `values` with the least weighted squared error, or the least cost.

    Exact for up to 4096 values without weights. Of more, groups of equal weight are clustered exactly, and then all
    of them are refined by Lloyd's algorithm.

    Args:
        values: any shape.
        count: 1 to 256. Where there are fewer different values, the last is repeated.
        weights: of the same shape, not negative.
        lagrangian: weighted squared error that a bit of index is worth; above zero, indices are priced by their
            entropy.
    """
    order = np.argsort(values, axis=None, kind="stable")
    x = np.asarray(values, np.float64).ravel()[order]
    w = np.ones(x.size) if weights is None else np.asarray(weights, np.float64).ravel()[order]
    if not x.size or not w.sum() > 0:
        return Codebook(np.zeros(count, np.float32), np.zeros(count))
    centres, mass, entries = _groups(x, w, _GROUPS)
    distinct = np.unique(centres).size
    levels = np.asarray(kmeans1d.cluster(centres, min(count, distinct)).centroids)
    levels = _lloyd(x, w, levels)
    prices = np.zeros(len(levels))
    if lagrangian > 0:
        levels, prices = _entropy_constrained(centres, mass, entries, levels, lagrangian)
    padding = count - len(levels)
    levels = np.pad(levels, (0, padding), mode="edge")
    prices = np.pad(prices, (0, padding), constant_values=np.inf if lagrangian > 0 else 0.0)
    return Codebook(levels.astype(np.float32), prices)


def quantise(
    weight: Rows,
    count: int,
    moment: Moment | None = None,
    *,
    kept: npt.NDArray[np.bool_] | None = None,
    lagrangian: float = 0.0,
    sweeps: int = 1,
) -> tuple[npt.NDArray[np.float32], Indices]:
    """Give every entry of a weight [Q, R] one of `count` shared values.

    Args:
        weight: what to come close to.
        count: how many values, 1 to 256; with `kept` one of them is the zero.
        moment: [Q, Q], positive definite: minimise the error of the output instead of that of the weight.
        kept: [Q, R], where not the value zero; index 0 is then reserved for the zero.
        lagrangian: as of `fit`, by the mean weighted square of an entry.
        sweeps: how often to go over rounding and values again, with `moment`.

    Returns:
        The values, float32 [count], and the indices, uint8 [Q, R].
    """
    mask = np.ones(weight.shape, np.bool_) if kept is None else kept
    reserved = int(kept is not None)
    if count <= reserved or not mask.any():
        return np.zeros(count, np.float32), np.zeros(weight.shape, np.uint8)
    curvature = np.ones(len(weight)) if moment is None else np.diag(moment)
    weights = np.broadcast_to(curvature[:, None], weight.shape)[mask]
    scale = float(np.mean(weights * np.square(weight[mask], dtype=np.float64)))
    book = fit(weight[mask], count - reserved, weights, lagrangian=lagrangian * scale)
    if moment is None:
        indices = np.zeros(weight.shape, np.uint8)
        indices[mask] = book.indices(weight[mask]) + reserved
        return _reserve(book.levels, reserved), indices
    return _on_moment(weight, mask, reserved, book, moment, sweeps)


def _on_moment(
    weight: Rows, mask: npt.NDArray[np.bool_], reserved: int, book: Codebook, moment: Moment, sweeps: int
) -> tuple[npt.NDArray[np.float32], Indices]:
    indices = np.zeros(weight.shape, np.uint8)

    def choose(row: int, wished: Rows, curvature: float) -> Rows:
        indices[row] = np.where(mask[row], book.indices(wished, curvature) + reserved, 0)
        values: Rows = _reserve(book.levels, reserved)[indices[row]]
        return values

    compensate(weight, moment, choose)
    for _ in range(sweeps):
        levels = _refit(weight, indices, mask, reserved, book.levels, moment)
        order = np.argsort(levels, kind="stable")
        book = Codebook(levels[order], book.prices[order])
        places = np.concatenate([np.arange(reserved), reserved + np.argsort(order)])
        indices[:] = places[indices]
        descend(weight, _reserve(book.levels, reserved)[indices], moment, choose)
    return _reserve(_refit(weight, indices, mask, reserved, book.levels, moment), reserved), indices


def _refit(
    weight: Rows,
    indices: Indices,
    mask: npt.NDArray[np.bool_],
    reserved: int,
    levels: npt.NDArray[np.float32],
    moment: Moment,
) -> npt.NDArray[np.float32]:
    """The values that do best for these indices: a few steps of conjugate gradients on their normal equations."""
    H = moment.astype(np.float32)
    cluster = (indices - reserved)[mask]
    count = len(levels)

    def spread(values: npt.NDArray[Any]) -> Rows:
        full = np.zeros(weight.shape, np.float32)
        full[mask] = values[cluster]
        return full

    def gather(full: Rows) -> Values:
        return np.bincount(cluster, full[mask], count).astype(np.float64)

    own = np.bincount(cluster, np.broadcast_to(np.diag(moment)[:, None], weight.shape)[mask], count)
    own = np.where(own > 0, own, 1.0)
    solution = levels.astype(np.float64)
    residual = gather(H @ (weight - spread(levels)))
    direction = residual / own
    energy = float(residual @ direction)
    for _ in range(min(_CONJUGATE, count)):
        if not energy > 0:
            break
        image = gather(H @ spread(direction.astype(np.float32)))
        curvature = float(direction @ image)
        if not curvature > 0:
            break
        solution += energy / curvature * direction
        residual -= energy / curvature * image
        step = residual / own
        energy, before = float(residual @ step), energy
        direction = step + energy / before * direction
    return solution.astype(np.float32)


def _reserve(levels: npt.NDArray[np.float32], reserved: int) -> npt.NDArray[np.float32]:
    return np.concatenate([np.zeros(reserved, np.float32), levels])


def _groups(x: Values, w: Values, count: int) -> tuple[Values, Values, Values]:
    """Means, weights and numbers of values of about `count` runs of equal weight of the ascending `x`."""
    if x.size <= count and w.min() == w.max():
        return x, w, np.ones(x.size)
    total = np.cumsum(w)
    ends = np.unique(np.searchsorted(total, total[-1] * np.arange(1, count + 1) / count, side="left"))
    starts = np.unique(np.concatenate([[0], np.minimum(ends + 1, x.size - 1)]))
    mass = np.add.reduceat(w, starts)
    entries = np.diff(np.append(starts, x.size)).astype(np.float64)
    means = np.add.reduceat(w * x, starts)
    used = mass > 0
    return means[used] / mass[used], mass[used], entries[used]


def _lloyd(x: Values, w: Values, levels: Values) -> Values:
    """Refine ascending `levels` on ascending `x`: prefix sums make a step cost a search per level."""
    mass = np.concatenate([[0.0], np.cumsum(w)])
    moments = np.concatenate([[0.0], np.cumsum(w * x)])
    for _ in range(_LLOYD):
        ends = np.concatenate([[0], np.searchsorted(x, (levels[1:] + levels[:-1]) / 2), [x.size]])
        cluster = np.diff(mass[ends])
        new = np.where(cluster > 0, np.diff(moments[ends]) / np.where(cluster > 0, cluster, 1.0), levels)
        if np.array_equal(new, levels):
            break
        levels = np.sort(new)
    return levels


def _entropy_constrained(
    x: Values, mass: Values, entries: Values, levels: Values, lagrangian: float
) -> tuple[Values, Values]:
    prices = np.zeros(len(levels))
    weights = mass / entries
    for _ in range(_LLOYD):
        cost = weights[:, None] * np.square(x[:, None] - levels) + prices
        chosen = np.argmin(cost, axis=1)
        used = np.bincount(chosen, entries, len(levels))
        cluster = np.bincount(chosen, mass, len(levels))
        means = np.bincount(chosen, mass * x, len(levels)) / np.where(cluster > 0, cluster, 1.0)
        new = np.where(cluster > 0, means, levels)
        with np.errstate(divide="ignore"):
            prices = -lagrangian * np.log2(used / used.sum())
        if np.array_equal(new, levels):
            break
        levels = new
    order = np.argsort(levels, kind="stable")
    return levels[order], prices[order]


def row_bytes(Q: int, R: int, bits: int) -> int:
    """Bytes of the packed indices of a Q x R weight."""
    return R * packed_bytes(bits, Q)


def pack_rows(indices: Indices, bits: int) -> Indices:
    """Indices [Q, R] as CodebookMatMul takes them: output by output, each output's packed into whole bytes."""
    each = np.unpackbits(np.ascontiguousarray(indices.T)[..., None], axis=2, count=bits, bitorder="little")
    return np.packbits(each.reshape(len(each), -1), axis=1, bitorder="little").reshape(-1)


def unpack_rows(packed: Indices, Q: int, R: int, bits: int) -> Indices:
    """The indices [Q, R] that `pack_rows` packed."""
    rows = packed.reshape(R, packed_bytes(bits, Q))
    each = np.unpackbits(rows, axis=1, count=Q * bits, bitorder="little").reshape(R, Q, bits)
    return np.ascontiguousarray(np.packbits(each, axis=2, bitorder="little").reshape(R, Q).T)
