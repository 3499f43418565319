"""DeepThin: a matrix as the re-layout of a low-rank product (Sotoudeh and Baghsorkhi, arXiv 1802.06944)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compression.base import (
    Array,
    Calibration,
    Compressed,
    GraphBuilder,
    Matrix,
    Method,
    Plan,
    SizeError,
    finish,
)
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.deepthin_als import refine
from models.compression.stored import budget, checked, op_inputs, shape_attributes
from ops.errors import GeometryError
from ops.fastest import solve_fastest
from ops.layout import Geometry, inverse_relayout, reconstruct, smallest_size, solve
from ops.measure import kept_bytes

Stored = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], dict[str, Array]]
"""The arrays that a method stores for factors [m, r] and [r, n]."""


@dataclass(frozen=True, slots=True)
class DeepThinFactors:
    """Factors of one matrix.

    Attributes:
        geometry: the shape of the matrix and of the factors.
        Xf: [m, r].
        Wf: [r, n].
        relative_error: Frobenius norm of the difference over that of the matrix.
    """

    geometry: Geometry
    Xf: npt.NDArray[np.float64]
    Wf: npt.NDArray[np.float64]
    relative_error: float


def factorise(weight: npt.NDArray[Any], geometry: Geometry) -> DeepThinFactors:
    """The best factors of `weight` [Q, R] in the Frobenius norm: the truncated SVD of its inverse re-layout.

    The surplus values of the auxiliary matrix are taken as zero; at most n - 1 of them exist, so the loss is small.
    """
    auxiliary = inverse_relayout(np.asarray(weight, dtype=np.float64), geometry.n)
    auxiliary = np.pad(auxiliary, ((0, geometry.m - auxiliary.shape[0]), (0, 0)))
    Xf, Wf, kept = truncated_svd(auxiliary, geometry.r)
    total = float(np.square(auxiliary).sum())
    error = np.sqrt(max(total - kept, 0.0) / total) if total > 0 else 0.0
    return DeepThinFactors(geometry, *balanced(Xf, Wf), float(error))


def truncated_svd(
    matrix: npt.NDArray[np.float64], rank: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """The best factors [m, rank] and [rank, n] of a matrix [m, n], and the sum of squares that they keep."""
    # The smaller Gram matrix has the same leading vectors and is far cheaper than the SVD of a long thin matrix.
    if matrix.shape[1] <= matrix.shape[0]:
        values, vectors = np.linalg.eigh(matrix.T @ matrix)
        right = vectors[:, ::-1][:, :rank].T
        left = matrix @ right.T
    else:
        values, vectors = np.linalg.eigh(matrix @ matrix.T)
        left = vectors[:, ::-1][:, :rank]
        right = left.T @ matrix
    return left, right, float(np.clip(values[::-1][:rank], 0.0, None).sum())


def balanced(
    Xf: npt.NDArray[np.float64], Wf: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The same product, with entries of both factors about as large, so that one learning rate suits them."""
    scale = np.sqrt(np.linalg.norm(Xf, axis=0) / np.maximum(np.linalg.norm(Wf, axis=1), 1e-30))
    balance = scale * np.power(Wf.shape[1] / Xf.shape[0], 0.25)
    balance = np.where(balance > 0, balance, 1.0)
    return Xf / balance, Wf * balance[:, None]


def plan_geometry(name: str, Q: int, R: int, relative_size: float, rank: int, **more: int) -> Plan:
    """The plan of the DeepThin geometry nearest to a wish; wishes above the dense size count as the dense size.

    `more` is added to the plan's geometry.

    Raises:
        SizeError: no geometry of rank `rank` is that small.
    """
    reachable = reachable_sizes(Q, R, rank)
    budget(f"{name} at rank {rank}", Q, R, relative_size, reachable)
    geometry = solve(Q, R, min(relative_size, reachable[1]), rank)
    if rank > min(geometry.m, geometry.n):
        raise SizeError(f"{name} has no factors of rank {rank} for a {Q} x {R} weight")
    return _plan(name, geometry, **more)


def _plan(name: str, geometry: Geometry, **more: int) -> Plan:
    numbers = {"m": geometry.m, "n": geometry.n, "r": geometry.r, **more}
    return Plan(name, geometry.Q, geometry.R, 4 * geometry.values, numbers)


def reachable_sizes(Q: int, R: int, rank: int = 1) -> tuple[float, float]:
    """The smallest and the largest relative size; a tiny weight has no DeepThin form that is smaller than itself."""
    try:
        smallest = smallest_size(Q, R, rank)
        return smallest, solve(Q, R, max(1.0, smallest), rank).relative_size
    except GeometryError as error:
        raise SizeError(str(error)) from error


def geometry_of(plan: Plan) -> Geometry:
    """The geometry of a plan that `plan_geometry` made."""
    m, n, r = (int(plan.geometry[key]) for key in "mnr")
    return Geometry(plan.Q, plan.R, m, n, r)


def stored_factors(Xf: npt.NDArray[np.float64], Wf: npt.NDArray[np.float64]) -> dict[str, Array]:
    """The factors as they are stored."""
    Xf, Wf = balanced(Xf, Wf)
    return {"Xf": np.ascontiguousarray(Xf, np.float32), "Wf": np.ascontiguousarray(Wf, np.float32)}


def check_factors(arrays: Mapping[str, Array], geometry: Geometry) -> dict[str, Array]:
    """The arrays of a stream, if they are factors of this geometry; a `StreamError` otherwise."""
    shapes = {"Xf": (geometry.m, geometry.r), "Wf": (geometry.r, geometry.n)}
    return checked(arrays, {name: (np.float32, shape) for name, shape in shapes.items()})


def best_factors(
    chosen: Method, weight: Matrix, plan: Plan, calibration: Calibration | None, stored: Stored
) -> Compressed:
    """The factors of `weight` [Q, R] that, as `stored`, have the least error of the layer's output.

    Without calibration, those of the truncated SVD of its inverse re-layout.
    """
    geometry = geometry_of(plan)
    start = factorise(weight, geometry)
    plain = finish(chosen, weight, plan, stored(start.Xf, start.Wf), calibration)
    if calibration is None:
        return plain
    Xf, Wf, _ = refine(weight, calibration.damped(), geometry, start.Xf, start.Wf)
    aware = finish(chosen, weight, plan, stored(Xf, Wf), calibration)
    return min(aware, plain, key=lambda result: result.output_error or 0.0)


class DeepThin:
    """The weight as the re-layout of a thin product ``Xf · Wf``."""

    name = "deepthin"
    summary = "re-layout of a low-rank product; the smallest and fastest at a hundredth of the size and below"
    source = "Sotoudeh and Baghsorkhi, arXiv 1802.06944"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Smallest and largest relative size at rank 1."""
        return reachable_sizes(Q, R)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The geometry whose size is nearest to the wish without exceeding it, n coprime to Q.

        Raises:
            SizeError: no plan is that small at this rank; the message names the reachable range.
        """
        return plan_geometry(self.name, Q, R, relative_size, rank)

    def plan_fastest(self, Q: int, R: int, relative_size: float) -> Plan:
        """The geometry of about the wished size with which this processor multiplies a row in the least time.

        Raises:
            SizeError: no plan is that small; the message names the reachable range.
        """
        reachable = reachable_sizes(Q, R)
        budget(self.name, Q, R, relative_size, reachable)
        geometry = solve_fastest(Q, R, min(relative_size, reachable[1]))
        if geometry.r > min(geometry.m, geometry.n):
            return self.plan(Q, R, relative_size)
        return _plan(self.name, geometry)

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Truncated SVD of the inverse re-layout of `weight` [Q, R]; with calibration, alternating least squares on."""
        return best_factors(self, weight, plan, calibration, stored_factors)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The re-layout of the product."""
        plan = compressed.plan
        return reconstruct(compressed.arrays["Xf"], compressed.arrays["Wf"], plan.Q, plan.R)

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a DeepThinMatMul."""
        inputs = [x, *(builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("Xf", "Wf"))]
        shape = shape_attributes(compressed.plan.Q, compressed.plan.R)
        return builder.node("DeepThinMatMul", op_inputs(inputs, bias), **shape)

    def resident_bytes(self, compressed: Compressed) -> int:
        """The factors, which ONNX Runtime keeps, and the operator's own packed copy, tables and transforms."""
        return compressed.plan.disk_bytes + kept_bytes(geometry_of(compressed.plan))

    def encode(self, compressed: Compressed) -> bytes:
        """The factors, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The factors of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        return check_factors(decode_arrays(stream), geometry_of(plan))
