"""DeepThin-Shuffled: DeepThin's values scattered at random, the paper's ablation (arXiv 1802.06944)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.deepthin import (
    check_factors,
    factorise,
    geometry_of,
    plan_geometry,
    reachable_sizes,
    stored_factors,
)
from models.compression.least_squares import Real, alternate
from models.compression.stored import op_inputs, shape_attributes
from ops.hashing import shuffled_positions
from ops.layout import inverse_relayout, reconstruct, relayout

SEED = 1


class DeepThinShuffled:
    """As DeepThin, but the weight reads the product ``Xf · Wf`` in the order of a pseudo-random permutation."""

    name = "deepthin-shuffled"
    summary = "DeepThin with its values scattered by a pseudo-random permutation, which is not stored"
    source = "Sotoudeh and Baghsorkhi, arXiv 1802.06944 (DeepThin-Shuffled)"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Smallest and largest relative size at rank 1."""
        return reachable_sizes(Q, R)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The plan of DeepThin.

        Raises:
            SizeError: no plan is that small at this rank; the message names the reachable range.
        """
        return plan_geometry(self.name, Q, R, relative_size, rank, seed=SEED)

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Truncated SVD of the values in their places in the product; with calibration, least squares in turns."""
        geometry, order = geometry_of(plan), _order(plan)
        placed = _placed(weight, order)
        start = factorise(placed, geometry)
        plain = finish(self, weight, plan, stored_factors(start.Xf, start.Wf), calibration)
        if calibration is None:
            return plain

        def take(product: Real) -> Matrix:
            return _taken(relayout(product.astype(np.float32), plan.Q, plan.R), order)

        def place(matrix: npt.NDArray[np.floating]) -> Real:
            auxiliary = inverse_relayout(_placed(matrix, order), geometry.n)
            return np.pad(auxiliary, ((0, geometry.m - len(auxiliary)), (0, 0))).astype(np.float64)

        Xf, Wf = alternate(weight, calibration.damped(), start.Xf, start.Wf, take=take, place=place)
        aware = finish(self, weight, plan, stored_factors(Xf, Wf), calibration)
        return min(aware, plain, key=lambda result: result.output_error or 0.0)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The product's values where the permutation puts them."""
        plan = compressed.plan
        placed = reconstruct(compressed.arrays["Xf"], compressed.arrays["Wf"], plan.Q, plan.R)
        return _taken(placed, _order(plan))

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a DeepThinMatMul that shuffles."""
        plan = compressed.plan
        inputs = [x, *(builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("Xf", "Wf"))]
        shape = shape_attributes(plan.Q, plan.R)
        return builder.node("DeepThinMatMul", op_inputs(inputs, bias), shuffle=int(plan.geometry["seed"]), **shape)

    def resident_bytes(self, compressed: Compressed) -> int:
        """The factors, which the operator reads where ONNX Runtime keeps them."""
        return compressed.plan.disk_bytes

    def encode(self, compressed: Compressed) -> bytes:
        """The factors, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The factors of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        return check_factors(decode_arrays(stream), geometry_of(plan))


def _order(plan: Plan) -> npt.NDArray[np.int64]:
    return shuffled_positions(plan.Q, plan.R, int(plan.geometry["seed"]))


def _taken(placed: npt.NDArray[np.float32], order: npt.NDArray[np.int64]) -> Matrix:
    """The weight that reads the entries of `placed`, counted column by column, in this order."""
    Q, R = placed.shape
    return placed.T.reshape(-1)[order].reshape(R, Q).T


def _placed(weight: npt.NDArray[np.floating], order: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
    """The inverse of `_taken`."""
    Q, R = weight.shape
    flat = np.empty(Q * R, weight.dtype)
    flat[order] = weight.T.reshape(-1)
    return flat.reshape(R, Q).T
