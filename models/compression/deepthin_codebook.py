"""DeepThin factors of which the long one holds few shared values."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt, log
from typing import Final

import numpy as np
import numpy.typing as npt

from models.compression.base import (
    Array,
    Calibration,
    Compressed,
    GraphBuilder,
    Matrix,
    Plan,
    SizeError,
    StreamError,
    finish,
)
from models.compression.codebook import Codebook, Indices, fit
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.deepthin import factorise, geometry_of
from models.compression.deepthin_als import OutputLeastSquares, refine
from models.compression.rounding import Rows, compensate
from models.compression.stored import budget, checked, op_inputs, shape_attributes
from ops.layout import Geometry, inverse_relayout, reconstruct
from ops.measure import kept_bytes
from ops.packing import pack_bits, unpack_bits

Real = npt.NDArray[np.float64]
Columns = list[tuple[npt.NDArray[np.int64], Real]]
"""As `OutputLeastSquares.problems` gives them."""

_BITS: Final = range(1, 7)
# What sharing costs normally distributed values at best (Max, 1960).
_DISTORTION: Final = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.0095, 5: 0.0025, 6: 0.00066}
_POWERS: Final = tuple(1 << bit for bit in range(8))
_DAMPING: Final = 1e-6
_INT64: Final = 7  # onnx.TensorProto.INT64


class DeepThinCodebook:
    """``Xf`` as indices into a few shared values, ``Wf``, which is far shorter, in fp32.

    So many more rows of ``Xf`` fit into the same bytes. A session multiplies by factors in fp32: it looks the values up
    once, when it is created, so that the memory it keeps is larger than the file.
    """

    name = "deepthin-codebook"
    summary = "DeepThin with shared values in the long factor: smaller files, fp32 factors in memory"
    source = "Sotoudeh and Baghsorkhi, arXiv 1802.06944, with the shared values of Han et al., arXiv 1510.00149"

    def __init__(self, lagrangian: float = 0.0) -> None:
        """`lagrangian`: error, by the mean square of an entry of ``Xf``, that a bit of an index is worth.

        Above zero the transport stream is shorter and the error larger; the bytes on disk are the same.
        """
        self.lagrangian = lagrangian

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Smallest and largest relative size at rank 1."""
        return self._sizes(Q, R, 1)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The bits of an index and the n, the smallest that then fits, which promise the least error; n coprime to Q.

        Raises:
            SizeError: no plan is that small at this rank; the message names the reachable range.
        """
        name = f"{self.name} at rank {rank}"
        allowed = budget(name, Q, R, relative_size, self._sizes(Q, R, rank))
        candidates = []
        for bits in _BITS:
            n, sizes = _choices(Q, R, rank, bits)
            if (fitting := np.flatnonzero(sizes <= allowed)).size:
                first = int(fitting[0])
                candidates.append((_expected_error(int(n[first]), bits), int(sizes[first]), int(n[first]), bits))
        _, size, n_best, bits = min(candidates)
        geometry = {"m": -(-Q * R // n_best), "n": n_best, "r": rank, "bits": bits}
        return Plan(self.name, Q, R, size, geometry)

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Factorise `weight` [Q, R], share the values of ``Xf``, and refit ``Wf`` to that by least squares.

        With calibration, the factors and the refitted ``Wf`` are those with the least error of the layer's output.
        """
        geometry, bits = geometry_of(plan), int(plan.geometry["bits"])
        factors = factorise(weight, geometry)
        Xf, Wf = factors.Xf, factors.Wf
        if calibration is not None:
            Xf, Wf, _ = refine(weight, calibration.damped(), geometry, Xf, Wf)
        scale = np.sqrt(np.mean(np.square(Xf), axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        Xf, Wf = Xf / scale, Wf * scale[:, None]
        if calibration is None:
            book = fit(Xf, 1 << bits, lagrangian=self.lagrangian)
            indices = book.indices(Xf)
            Wf = _taps(weight, geometry, book.levels[indices].astype(np.float64))
        else:
            problem = OutputLeastSquares(weight, calibration.damped(), geometry)
            Xf = problem.solve_rows(Xf, Wf)
            columns = list(problem.problems(Wf))
            book = fit(Xf, 1 << bits, _curvatures(columns, Xf), lagrangian=self.lagrangian)
            indices = _round(columns, book, Xf)
            Wf, _ = problem.solve_taps(book.levels[indices].astype(np.float64), Wf)
        arrays: dict[str, Array] = {
            "codebook": book.levels,
            "indices": pack_bits(indices.reshape(-1), bits),
            "Wf": Wf.astype(np.float32),
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The re-layout of the product."""
        plan, arrays = compressed.plan, compressed.arrays
        geometry, bits = geometry_of(plan), int(plan.geometry["bits"])
        indices = unpack_bits(arrays["indices"], bits, geometry.m * geometry.r)
        Xf = arrays["codebook"][indices].reshape(geometry.m, geometry.r)
        return reconstruct(Xf, arrays["Wf"], plan.Q, plan.R)

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add the nodes that look ``Xf`` up, which ONNX Runtime computes at load, and DeepThinMatMul."""
        geometry, arrays = geometry_of(compressed.plan), compressed.arrays
        bits = int(compressed.plan.geometry["bits"])

        def constant(key: str) -> str:
            return builder.constant(f"{name}.{key}", arrays[key])

        def integers(*values: int) -> str:
            return builder.node("Constant", [], value_ints=list(values))

        stored = builder.node("Cast", [constant("indices")], to=_INT64)
        each = builder.node("Reshape", [stored, integers(-1, 1)])
        # The bits of every byte in a row, and then those of every index as its digits.
        digits = builder.node("Mod", [builder.node("Div", [each, integers(*_POWERS)]), integers(2)])
        flat = builder.node("Reshape", [digits, integers(-1)])
        used = builder.node("Slice", [flat, integers(0), integers(geometry.m * geometry.r * bits)])
        rows = builder.node("Reshape", [used, integers(-1, bits)])
        worth = builder.node("Mul", [rows, integers(*_POWERS[:bits])])
        indices = builder.node("ReduceSum", [worth, integers(1)], keepdims=0)
        values = builder.node("Gather", [constant("codebook"), indices])
        Xf = builder.node("Reshape", [values, integers(geometry.m, geometry.r)])
        shape = shape_attributes(compressed.plan.Q, compressed.plan.R)
        return builder.node("DeepThinMatMul", op_inputs([x, Xf, constant("Wf")], bias), **shape)

    def resident_bytes(self, compressed: Compressed) -> int:
        """Both factors in fp32, and what the operator packs for itself."""
        geometry = geometry_of(compressed.plan)
        return 4 * geometry.values + kept_bytes(geometry)

    def encode(self, compressed: Compressed) -> bytes:
        """The indices, range-coded by their counts, the codebook and ``Wf``."""
        geometry, bits = geometry_of(compressed.plan), int(compressed.plan.geometry["bits"])
        indices = unpack_bits(compressed.arrays["indices"], bits, geometry.m * geometry.r)
        return encode_arrays({**compressed.arrays, "indices": indices})

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        geometry, bits = geometry_of(plan), int(plan.geometry["bits"])
        expected = {
            "codebook": (np.float32, (1 << bits,)),
            "indices": (np.uint8, (geometry.m * geometry.r,)),
            "Wf": (np.float32, (geometry.r, geometry.n)),
        }
        arrays = checked(decode_arrays(stream), expected)
        if arrays["indices"].max() >= 1 << bits:
            raise StreamError("an index of the stream names no value")
        arrays["indices"] = pack_bits(arrays["indices"], bits)
        return arrays

    def _sizes(self, Q: int, R: int, rank: int) -> tuple[float, float]:
        smallest = min(int(_choices(Q, R, rank, bits)[1].min()) for bits in _BITS)
        return smallest / (4 * Q * R), int(_choices(Q, R, rank, _BITS[-1])[1].max()) / (4 * Q * R)


def _choices(Q: int, R: int, rank: int, bits: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every n coprime to Q up to a little beyond the smallest size, and the bytes that go with it.

    Raises:
        SizeError: the product of no n has as high a rank.
    """
    n = np.arange(1, 2 * isqrt(bits * Q * R // 32) + 64, dtype=np.int64)
    n = n[(np.gcd(n, Q) == 1) & (np.minimum(n, -(-Q * R // n)) >= rank)]
    if not n.size:
        raise SizeError(f"deepthin-codebook has no factors of rank {rank} for a {Q} x {R} weight")
    return n, (4 << bits) + 4 * rank * n + (-(-Q * R // n) * rank * bits + 7) // 8


def _expected_error(n: int, bits: int) -> float:
    """Share of the output's energy that is lost: to the factors, as fitted to trained layers, and to sharing values."""
    return max(0.105 * log(n) - 0.1, 0.0) + 0.2 * _DISTORTION[bits]


def _curvatures(columns: Columns, Xf: Real) -> Real:
    """What an error of each entry of `Xf` [m, r] costs, by the mean over all."""
    result = np.zeros_like(Xf)
    for rows, gram in columns:
        np.add.at(result, rows, np.diag(gram).reshape(len(rows), 1, -1))
    mean = float(result.mean())
    return result / mean if mean > 0 else np.ones_like(Xf)


def _round(columns: Columns, book: Codebook, Xf: Real) -> Indices:
    """Indices [m, r] for `Xf`: inside a column of the weight, rows make up for each other's errors.

    `Xf` is what does best without rounding. The rows at a column's ends, which its neighbours share, are rounded first
    and by themselves.
    """
    indices = book.indices(Xf)
    r = Xf.shape[1]
    for rows, gram in columns:
        if len(rows) < 3:
            continue
        ends = np.r_[:r, len(gram) - r : len(gram)]
        inside = np.arange(r, len(gram) - r)
        wished = Xf[rows].transpose(0, 2, 1).reshape(len(gram), -1)
        errors = (book.levels[indices[rows]] - Xf[rows]).transpose(0, 2, 1).reshape(len(gram), -1)[ends]
        moment = gram[np.ix_(inside, inside)]
        moment = moment + _DAMPING * max(float(np.trace(moment)) / len(moment), 1e-30) * np.eye(len(moment))
        target = wished[inside] - np.linalg.solve(moment, gram[np.ix_(inside, ends)] @ errors)
        chosen = np.empty(target.shape, np.uint8)
        _compensated(book, target, moment, chosen)
        indices[rows[1:-1]] = chosen.reshape(len(rows) - 2, r, -1).transpose(0, 2, 1)
    return indices


def _compensated(book: Codebook, target: Real, moment: Real, chosen: Indices) -> None:
    def choose(row: int, wished: Rows, curvature: float) -> Rows:
        chosen[row] = book.indices(wished)
        values: Rows = book.levels[chosen[row]]
        return values

    compensate(target, moment, choose)


def _taps(weight: Matrix, geometry: Geometry, Xf: Real) -> Real:
    """The best ``Wf`` for this ``Xf``; the surplus of its product is taken as zero."""
    auxiliary = inverse_relayout(np.asarray(weight, np.float64), geometry.n)
    auxiliary = np.pad(auxiliary, ((0, geometry.m - len(auxiliary)), (0, 0)))
    gram = Xf.T @ Xf
    damping = max(_DAMPING * float(np.trace(gram)), 1e-30)
    solved: Real = np.linalg.solve(gram + damping * np.eye(len(gram)), Xf.T @ auxiliary)
    return solved
