"""The weight as it is, in fp32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.stored import add_bias, budget, checked


class Dense:
    """Stores the weight as it is."""

    name = "dense"
    summary = "the weight as it is, in fp32"
    source = "the uncompressed network"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Always 1."""
        return 1.0, 1.0

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The one plan there is.

        Raises:
            SizeError: less than the whole weight was wished for.
        """
        budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        return Plan(self.name, Q, R, 4 * Q * R)

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Copy `weight` [Q, R]."""
        return finish(self, weight, plan, {"weight": np.array(weight, np.float32, order="C")}, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The weight."""
        return compressed.arrays["weight"]

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add MatMul (and Add)."""
        weight = builder.constant(name, compressed.arrays["weight"])
        return add_bias(builder, builder.node("MatMul", [x, weight]), bias)

    def resident_bytes(self, compressed: Compressed) -> int:
        """ONNX Runtime keeps the weight once: as it is, or packed instead."""
        return compressed.plan.disk_bytes

    def encode(self, compressed: Compressed) -> bytes:
        """The weight's bytes, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The weight of a stream that `encode` made.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        return checked(decode_arrays(stream), {"weight": (np.float32, (plan.Q, plan.R))})
