"""HashedNets: every entry of a matrix is one of a few shared values, and a hash says which (Chen et al., ICML 2015)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.least_squares import Real, conjugate_gradient
from models.compression.stored import budget, checked, op_inputs, shape_attributes
from ops.hashing import hashed_entries

SEED = 1

_ROUNDS = 40


class Hashed:
    """Shared values; a hash of the entry's place picks the value and its sign, so that no index is stored."""

    name = "hashed"
    summary = "HashedNet: a hash of each entry's place picks one of a few shared values and its sign"
    source = "Chen et al., ICML 2015, arXiv 1504.04788"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """From one value to as many as there are entries."""
        return 1 / (Q * R), 1.0

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """As many shared values K as the size allows; `rank` has no meaning here.

        Raises:
            SizeError: not even one fits; the message names the reachable range.
        """
        K = min(budget(self.name, Q, R, relative_size, self.sizes(Q, R)) // 4, Q * R)
        return Plan(self.name, Q, R, 4 * K, {"K": K, "seed": SEED})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Means of the entries that share a value; with calibration, the values that are best for the output."""
        index, sign = self._entries(plan)
        K = int(plan.geometry["K"])
        counts = np.bincount(index.ravel(), minlength=K)
        means = _gather(weight, index, sign, K) / np.maximum(counts, 1)
        plain = finish(self, weight, plan, {"values": means.astype(np.float32)}, calibration)
        if calibration is None:
            return plain
        moment = calibration.damped()
        H = moment.astype(np.float32)
        curvature = np.broadcast_to(np.diag(moment)[:, None], sign.shape)
        best = conjugate_gradient(
            lambda values: _gather(H @ _scatter(values, index, sign), index, sign, K),
            _gather(moment @ weight.astype(np.float64), index, sign, K),
            means,
            _gather(curvature * sign, index, sign, K),
            rounds=_ROUNDS,
        )
        aware = finish(self, weight, plan, {"values": best.astype(np.float32)}, calibration)
        return min(aware, plain, key=lambda result: result.output_error or 0.0)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The dense weight."""
        return _scatter(compressed.arrays["values"], *self._entries(compressed.plan))

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a HashedMatMul."""
        plan = compressed.plan
        values = builder.constant(f"{name}.values", compressed.arrays["values"])
        shape = shape_attributes(plan.Q, plan.R)
        return builder.node("HashedMatMul", op_inputs([x, values], bias), seed=int(plan.geometry["seed"]), **shape)

    def resident_bytes(self, compressed: Compressed) -> int:
        """The values, which the operator reads where ONNX Runtime keeps them."""
        return compressed.plan.disk_bytes

    def encode(self, compressed: Compressed) -> bytes:
        """The values, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The values of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        return checked(decode_arrays(stream), {"values": (np.float32, (int(plan.geometry["K"]),))})

    def _entries(self, plan: Plan) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        return hashed_entries(plan.Q, plan.R, int(plan.geometry["K"]), int(plan.geometry["seed"]))


def _scatter(values: npt.NDArray[np.floating], index: npt.NDArray[np.int32], sign: npt.NDArray[np.float32]) -> Matrix:
    return values.astype(np.float32)[index] * sign


def _gather(
    matrix: npt.NDArray[np.floating], index: npt.NDArray[np.int32], sign: npt.NDArray[np.float32], K: int
) -> Real:
    sums: Real = np.bincount(index.ravel(), (matrix * sign).ravel(), K).astype(np.float64, copy=False)
    return sums
