"""DeepThin factors in fewer bits, which the operator reads as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

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
)
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.deepthin import balanced, best_factors, geometry_of
from models.compression.stored import Expected, budget, checked, shape_attributes
from ops.layout import Geometry, reconstruct
from ops.measure import kept_bytes
from ops.quantised import SCALED_ROWS, dequantise_rows, quantise_rows

Real = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int64]

LARGEST = 65504.0
"""The largest float16."""


def halved(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    """The nearest float16 of each value, all of them finite."""
    return np.ascontiguousarray(np.clip(values, -LARGEST, LARGEST), np.float16)


class DeepThinFloat16:
    """Both factors as float16."""

    name = "deepthin-float16"
    summary = "DeepThin with both factors in half precision: half the bytes, in memory too"
    source = "Sotoudeh and Baghsorkhi, arXiv 1802.06944, in IEEE 754 binary16"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Smallest and largest relative size at rank 1."""
        return self._sizes(Q, R, 1)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The smallest n that fits, coprime to Q: its size is nearest to the wish without exceeding it.

        Raises:
            SizeError: no plan is that small at this rank; the message names the reachable range.
        """
        allowed = budget(f"{self.name} at rank {rank}", Q, R, relative_size, self._sizes(Q, R, rank))
        n, stored = self._choices(Q, R, rank)
        first = int(np.flatnonzero(stored <= allowed)[0])
        numbers = {"m": -(-Q * R // int(n[first])), "n": int(n[first]), "r": rank}
        return Plan(self.name, Q, R, int(stored[first]), numbers)

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """The factors that DeepThin finds for `weight` [Q, R], rounded."""
        return best_factors(self, weight, plan, calibration, self.stored)

    def stored(self, Xf: Real, Wf: Real) -> dict[str, Array]:
        """The factors [m, r] and [r, n] as they are stored."""
        Xf, Wf = balanced(Xf, Wf)
        return {"Xf": halved(Xf), "Wf": halved(Wf)}

    def factors(self, arrays: Mapping[str, Array]) -> tuple[Matrix, Matrix]:
        """The factors [m, r] and [r, n] that arrays stand for."""
        return arrays["Xf"].astype(np.float32), arrays["Wf"].astype(np.float32)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The re-layout of the product."""
        return reconstruct(*self.factors(compressed.arrays), compressed.plan.Q, compressed.plan.R)

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a DeepThinMatMul."""
        Xf, Wf, *scales = (builder.constant(f"{name}.{key}", array) for key, array in compressed.arrays.items())
        given = [x, Xf, Wf, *([bias or "", *scales] if bias or scales else [])]
        return builder.node("DeepThinMatMul", given, **shape_attributes(compressed.plan.Q, compressed.plan.R))

    def resident_bytes(self, compressed: Compressed) -> int:
        """The arrays, which ONNX Runtime keeps, and what the operator keeps of them, with ``Xf`` in half precision."""
        kept = kept_bytes(geometry_of(compressed.plan), half_Xf=True, half_Wf=True)
        return compressed.plan.disk_bytes + kept

    def encode(self, compressed: Compressed) -> bytes:
        """The arrays, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        return checked(decode_arrays(stream), self._expected(geometry_of(plan)))

    def _expected(self, geometry: Geometry) -> Expected:
        return {"Xf": (np.float16, (geometry.m, geometry.r)), "Wf": (np.float16, (geometry.r, geometry.n))}

    def _bytes(self, m: Bytes, n: Bytes, r: int) -> Bytes:
        return 2 * r * (m + n)

    def _choices(self, Q: int, R: int, rank: int) -> tuple[Bytes, Bytes]:
        """Every n coprime to Q up to a little beyond the smallest size, and the bytes that go with it.

        Raises:
            SizeError: the product of no n has as high a rank.
        """
        n = np.arange(1, 2 * isqrt(Q * R) + 64, dtype=np.int64)
        m = -(-Q * R // n)
        used = (np.gcd(n, Q) == 1) & (np.minimum(n, m) >= rank)
        if not used.any():
            raise SizeError(f"{self.name} has no factors of rank {rank} for a {Q} x {R} weight")
        return n[used], self._bytes(m[used], n[used], rank)

    def _sizes(self, Q: int, R: int, rank: int) -> tuple[float, float]:
        stored = self._choices(Q, R, rank)[1]
        return int(stored.min()) / (4 * Q * R), int(stored.max()) / (4 * Q * R)


class DeepThinInt8(DeepThinFloat16):
    """``Xf``, nearly all of a weight where n is small, as int8 with a scale for every 64 rows; ``Wf`` as float16."""

    name = "deepthin-int8"
    summary = "DeepThin with the long factor in 8 bits: about a quarter of the bytes, half of the memory"
    source = "Sotoudeh and Baghsorkhi, arXiv 1802.06944, rounded with a scale for every 64 rows"

    def stored(self, Xf: Real, Wf: Real) -> dict[str, Array]:
        """The factors [m, r] and [r, n] as they are stored."""
        Xf, Wf = balanced(Xf, Wf)
        codes, scales = quantise_rows(np.clip(Xf, -LARGEST, LARGEST))
        return {"Xf": np.ascontiguousarray(codes), "Wf": halved(Wf), "Xf_scales": np.ascontiguousarray(scales)}

    def factors(self, arrays: Mapping[str, Array]) -> tuple[Matrix, Matrix]:
        """The factors [m, r] and [r, n] that arrays stand for."""
        return dequantise_rows(arrays["Xf"], arrays["Xf_scales"]).astype(np.float32), arrays["Wf"].astype(np.float32)

    def _expected(self, geometry: Geometry) -> Expected:
        m, n, r = geometry.m, geometry.n, geometry.r
        scales = (-(-m // SCALED_ROWS), r)
        return {"Xf": (np.int8, (m, r)), "Wf": (np.float16, (r, n)), "Xf_scales": (np.float32, scales)}

    def _bytes(self, m: Bytes, n: Bytes, r: int) -> Bytes:
        return r * (m + 2 * n + 4 * -(-m // SCALED_ROWS))
