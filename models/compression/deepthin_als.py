"""Alternating least squares for DeepThin factors: the layer's output is what stays close, not the weight.

With ``H`` the mean outer product of the layer's inputs and ``V`` the re-layout of ``Xf · Wf``, both steps minimise
``trace((W - V)' · H · (W - V))`` exactly, `Xf` with `Wf` as it is and the other way round, so that it never grows.

Column c of ``V`` begins at phase ``p = c·Q mod n``; its row i is ``Xf[c·Q // n + i]`` times the values of ``Wf`` at the
offsets ``o .. o + n - 1`` of the column, ``o = i·n - p``. Both steps need sums over pairs of values, one in row i and
one in row i + d:

    G_d[o] = sum_t,u Wf[t] · Wf[u] · H[o + t, o + d·n + u]              for Xf: how rows i and i + d of phase p couple
    N[t, u] = sum_d,o M_d[o] · H[o + t, o + d·n + u]                    for Wf, M_d[o] = sum_c Xf[i] · Xf[i + d]

On the diagonal ``e = d·n + u - t`` of ``H`` both are correlations in one variable, so that the transforms of the
diagonals, computed once, serve every round. The rows inside a column are eliminated phase by phase; the rows shared by
two columns are left as a chain. The surplus values of ``Xf · Wf`` are free. Derived for this project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.layout import Geometry, inverse_relayout

Real = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

# Each step gives up this share of its freedom, so that factors which do not matter stay where they are.
_INERTIA = 1e-9


class OutputLeastSquares:
    """The problem of one weight, and the two steps that lower its objective.

    Attributes:
        geometry: shape of the weight and of the factors.
        energy: ``trace(W' · H · W)``, the objective of factors that are zero.
    """

    def __init__(self, weight: npt.NDArray[Any], moment: Real, geometry: Geometry) -> None:
        """`weight` [Q, R]; `moment` [Q, Q] is ``H``, positive definite."""
        Q, n = geometry.Q, geometry.n
        self.geometry = geometry
        W = np.asarray(weight, np.float64)
        product = moment @ W
        self.energy = float(np.vdot(W, product))
        target = inverse_relayout(product, n)
        self._target = np.pad(target, ((0, geometry.m - len(target)), (0, 0)))
        starts = np.arange(geometry.R) * Q
        self._first, self._last = starts // n, (starts + Q - 1) // n
        self._columns = {int(p): np.flatnonzero(starts % n == p) for p in np.unique(starts % n)}
        self._rows = int((self._last - self._first).max()) + 1
        self._length = _fast_length(Q + n - 1)
        self._spectra, self._zero = _diagonal_spectra(moment, min(n, Q) - 1, self._length)

    def solve_rows(self, Xf: Real, Wf: Real) -> Real:
        """The best `Xf` [m, r] for `Wf` [r, n]."""
        r = self.geometry.r
        couplings = self._couplings(Wf)
        inertia = _INERTIA * max(float(np.abs(couplings[range(r), range(r), 0]).mean()), 1e-300)
        wanted = self._target @ Wf.T + inertia * Xf
        nodes = np.unique(np.concatenate([self._first, self._last]))
        number = np.zeros(len(Xf), np.int64)
        number[nodes] = np.arange(len(nodes))
        blocks = np.tile(inertia * np.eye(r), (len(nodes), 1, 1))
        links = np.zeros((len(nodes) - 1, r, r))
        inner = []
        for phase, columns in self._columns.items():
            gram, rows = self._gram(couplings, phase), self._first[columns]
            count = len(gram) // r
            ends = np.unique([0, count - 1])
            edge = (ends[:, None] * r + np.arange(r)).ravel()
            inside = np.arange(r, (count - 1) * r)
            schur = gram[np.ix_(edge, edge)]
            if len(inside):
                wide = (rows[:, None] + np.arange(1, count - 1)).ravel()
                sides = np.concatenate([gram[np.ix_(inside, edge)], wanted[wide].reshape(len(rows), -1).T], axis=1)
                block = gram[np.ix_(inside, inside)] + inertia * np.eye(len(inside))
                solved = np.linalg.solve(block, sides)
                schur = schur - gram[np.ix_(edge, inside)] @ solved[:, : len(edge)]
                moved = (gram[np.ix_(edge, inside)] @ solved[:, len(edge) :]).T.reshape(len(rows), len(ends), r)
                for position, end in enumerate(ends):
                    np.subtract.at(wanted, rows + end, moved[:, position])
                inner.append((rows, wide, ends, solved))
            for position, end in enumerate(ends):
                own = slice(position * r, (position + 1) * r)
                np.add.at(blocks, number[rows + end], schur[own, own])
            if len(ends) == 2:
                np.add.at(links, number[rows], schur[:r, r:])
        result = Xf.copy()
        result[nodes] = _solve_chain(blocks, links, wanted[nodes])
        for rows, wide, ends, solved in inner:
            known = result[rows[:, None] + ends].reshape(len(rows), -1)
            split = known.shape[1]
            result[wide] = (solved[:, split:] - solved[:, :split] @ known.T).T.reshape(-1, r)
        return result

    def problems(self, Wf: Real) -> Iterator[tuple[npt.NDArray[np.int64], Real]]:
        """For every phase, the rows of `Xf` of its columns, [rows of a column, columns], and their normal matrix.

        Entry ``i * r + j`` of the matrix is rank j of a column's row i. A column's first and last row belong to its
        neighbours too.
        """
        couplings = self._couplings(Wf)
        for phase, columns in self._columns.items():
            gram = self._gram(couplings, phase)
            yield self._first[columns] + np.arange(len(gram) // len(Wf))[:, None], gram

    def solve_taps(self, Xf: Real, Wf: Real) -> tuple[Real, float]:
        """The best `Wf` [r, n] for `Xf` [m, r], and the objective that the two reach."""
        r, n = Wf.shape
        pairs = self._pairs(Xf)
        half = np.empty((r, n, r, n))
        t, u = np.arange(n)[:, None], np.arange(n)
        for j in range(r):
            for k in range(r):
                transform: Complex = np.fft.rfft(pairs[j, k], self._length).conj()
                total = np.zeros((2 * n - 1, transform.shape[1]), np.complex128)
                for d, spectrum in enumerate(transform):
                    shifts, diagonals = self._diagonals(d)
                    total[shifts] += spectrum * self._spectra[diagonals]
                half[j, :, k] = np.fft.irfft(total, self._length)[u - t + n - 1, t]
        flat = half.reshape(r * n, r * n)
        normal = flat + flat.T
        wanted = (Xf.T @ self._target).ravel()
        inertia = _INERTIA * max(float(np.abs(np.diag(normal)).mean()), 1e-300)
        solved = np.linalg.solve(normal + inertia * np.eye(r * n), wanted + inertia * Wf.ravel())
        return solved.reshape(r, n), self.energy - 2 * float(wanted @ solved) + float(solved @ normal @ solved)

    def _diagonals(self, d: int) -> tuple[slice, slice]:
        """Which differences u - t (from -(n-1) on), and which rows of the spectra, meet d rows apart."""
        n = self.geometry.n
        low, high = max(d * n - (n - 1), -self._zero), min(d * n + n - 1, self.geometry.Q - 1)
        first, count = low - d * n + n - 1, high - low + 1
        return slice(first, first + count), slice(low + self._zero, high + self._zero + 1)

    def _couplings(self, Wf: Real) -> Real:
        """``G_d[o]`` as [r, r, d, o modulo the length], d from 0 on: the first rank is that of the upper row."""
        r, n = Wf.shape
        result = np.empty((r, r, self._rows, self._length))
        for k in range(r):
            shifted = np.lib.stride_tricks.sliding_window_view(np.pad(Wf[k], n - 1), n)
            for j in range(r):
                products: Complex = np.fft.rfft(Wf[j] * shifted, self._length).conj()
                spectra = np.empty((self._rows, products.shape[1]), np.complex128)
                for d in range(self._rows):
                    shifts, diagonals = self._diagonals(d)
                    spectra[d] = np.einsum("el,el->l", products[shifts], self._spectra[diagonals])
                result[j, k] = np.fft.irfft(spectra, self._length)
        return result

    def _gram(self, couplings: Real, phase: int) -> Real:
        """The normal matrix of the rows of a column that begins at `phase`, rank by rank within each row."""
        offsets = self._offsets(phase)
        r, count = len(couplings), len(offsets)
        upper, lower = np.arange(count)[:, None], np.arange(count)
        gram = couplings[:, :, np.abs(lower - upper), offsets[np.minimum(upper, lower)]]
        gram = np.where(lower >= upper, gram, gram.swapaxes(0, 1))
        return gram.transpose(2, 0, 3, 1).reshape(count * r, count * r)

    def _pairs(self, Xf: Real) -> Real:
        """``M_d[o]`` as [r, r, d, o modulo the length], with M_0 halved as each of its pairs is met twice."""
        r = Xf.shape[1]
        result = np.zeros((r, r, self._rows, self._length))
        for phase, columns in self._columns.items():
            offsets = self._offsets(phase)
            count = len(offsets)
            own = Xf[self._first[columns][:, None] + np.arange(count)].reshape(len(columns), -1)
            gram = (own.T @ own).reshape(count, r, count, r).transpose(1, 3, 0, 2)
            i, k = np.triu_indices(count)
            result[:, :, k - i, offsets[i]] = gram[:, :, i, k]
        result[:, :, 0] *= 0.5
        return result

    def _offsets(self, phase: int) -> npt.NDArray[np.int64]:
        """Where the rows of a column that begins at `phase` start, modulo the length of the transforms."""
        n = self.geometry.n
        return (np.arange((phase + self.geometry.Q - 1) // n + 1) * n - phase) % self._length


def refine(
    weight: npt.NDArray[Any],
    moment: Real,
    geometry: Geometry,
    Xf: Real,
    Wf: Real,
    *,
    rounds: int = 30,
    tolerance: float = 1e-3,
) -> tuple[Real, Real, list[float]]:
    """Lower the output's error of the factors `Xf` [m, r] and `Wf` [r, n] of `weight` [Q, R].

    Args:
        weight: what to come close to.
        moment: [Q, Q] mean outer product of the inputs, positive definite.
        geometry: the shape.
        Xf: where to start.
        Wf: where to start.
        rounds: how often both are solved for, at most.
        tolerance: stop where a round lowers the objective by less than this share of it.

    Returns:
        The factors, and the objective by the energy of the output after every round; it never grows.
    """
    problem = OutputLeastSquares(weight, moment, geometry)
    history: list[float] = []
    if problem.energy <= 0:
        return Xf, Wf, history
    for _ in range(rounds):
        Xf = problem.solve_rows(Xf, Wf)
        Wf, objective = problem.solve_taps(Xf, Wf)
        history.append(objective / problem.energy)
        if len(history) > 1 and history[-2] - history[-1] < tolerance * history[-1]:
            break
    return Xf, Wf, history


def _solve_chain(blocks: Real, links: Real, wanted: Real) -> Real:
    """Solve a symmetric block tridiagonal system by cyclic reduction: every second block is eliminated at a time.

    `blocks` [k, r, r] on the diagonal, `links` [k - 1, r, r] right of it, `wanted` [k, r].
    """
    if len(blocks) == 1:
        return np.asarray(np.linalg.solve(blocks, wanted[..., None])[..., 0], np.float64)
    r = blocks.shape[1]
    odd = np.arange(1, len(blocks), 2)
    left = links[odd - 1]
    right = np.zeros_like(left)
    inner = odd[odd < len(links)]
    right[: len(inner)] = links[inner]
    sides = np.concatenate([left.swapaxes(1, 2), right, wanted[odd][..., None]], axis=2)
    solved = np.linalg.solve(blocks[odd], sides)
    from_left, from_right, own = solved[..., :r], solved[..., r : 2 * r], solved[..., 2 * r :]
    even, values = blocks[::2].copy(), wanted[::2].copy()
    even[: len(odd)] -= left @ from_left
    values[: len(odd)] -= (left @ own)[..., 0]
    back = right[: len(even) - 1].swapaxes(1, 2)
    even[1:] -= back @ from_right[: len(back)]
    values[1:] -= (back @ own[: len(back)])[..., 0]
    kept = _solve_chain(even, -left[: len(back)] @ from_right[: len(back)], values)
    result = np.empty_like(wanted)
    result[::2] = kept
    neighbours = np.concatenate([kept[1:], np.zeros((1, r))])[: len(odd)]
    result[odd] = (own - from_left @ kept[: len(odd), :, None] - from_right @ neighbours[..., None])[..., 0]
    return result


def _diagonal_spectra(moment: Real, below: int, length: int) -> tuple[Complex, int]:
    """Transforms of the diagonals of a symmetric matrix, from `below` under the main one on, and that one's row."""
    Q = len(moment)
    spectra = np.empty((below + Q, length // 2 + 1), np.complex128)
    for start in range(0, len(spectra), 256):
        rows = np.zeros((min(256, len(spectra) - start), Q))
        for row, e in enumerate(range(start - below, start - below + len(rows))):
            rows[row, max(0, -e) : Q - max(0, e)] = np.diagonal(moment, e)
        spectra[start : start + len(rows)] = np.fft.rfft(rows, length)
    return spectra, below


def _fast_length(least: int) -> int:
    """The smallest even number from `least` on that has no prime factor above 5."""
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2
