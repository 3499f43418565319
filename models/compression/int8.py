"""Eight-bit weights with a scale per output, as ONNX Runtime runs them: the baseline of dynamic quantisation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.rounding import Rows, compensate
from models.compression.stored import OneSize, add_bias, checked

_ZERO = 128
_LARGEST = 127
_FLOAT = 1  # onnx.TensorProto.FLOAT


class Int8(OneSize):
    """Whole numbers of -127 to 127 times a scale per output; the inputs are quantised too, batch by batch.

    That takes one step for a whole tensor: where a few inputs are much larger than the others, most of those become 0.

    They are stored as uint8 around 128: with int8 weights, ONNX Runtime's kernels for AVX2 and for AVX-512 without
    VNNI add pairs of products in 16 bits, which saturate. That makes a little above 1/4 of float32.
    """

    name = "int8"
    rounds_inputs = True
    summary = "8-bit weights and inputs through ONNX Runtime's dynamic quantisation"
    source = "ONNX Runtime; data-aware rounding: GPTQ, arXiv 2210.17323"

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Round `weight` [Q, R]; with calibration, so that the errors of an output's inputs make up for each other."""
        peak = np.abs(weight).max(axis=0)
        scale = np.where(peak > 0, peak / _LARGEST, 1.0).astype(np.float32)

        def nearest(values: Rows) -> Rows:
            codes: Rows = np.clip(np.rint(values / scale), -_LARGEST, _LARGEST)
            return codes

        def choose(row: int, wished: Rows, curvature: float) -> Rows:
            return nearest(wished) * scale

        rounded = weight if calibration is None else compensate(weight, calibration.damped(), choose)
        arrays: dict[str, Array] = {
            "weight": np.ascontiguousarray(nearest(rounded) + _ZERO).astype(np.uint8),
            "zero": np.array(_ZERO, np.uint8),
            "scale": scale,
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The rounded weight."""
        arrays = compressed.arrays
        centred = arrays["weight"].astype(np.float32) - arrays["zero"].astype(np.float32)
        weight: Matrix = centred * arrays["scale"]
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add the nodes that ONNX Runtime fuses into one DynamicQuantizeMatMul."""
        weight, zero, scale = (
            builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("weight", "zero", "scale")
        )
        quantised = builder.node("DynamicQuantizeLinear", [x], outputs=3)
        product = builder.node("MatMulInteger", [quantised, weight, f"{quantised}.2", zero])
        both = builder.node("Mul", [f"{quantised}.1", scale])
        y = builder.node("Mul", [builder.node("Cast", [product], to=_FLOAT), both])
        return add_bias(builder, y, bias)

    def export_lookup(self, compressed: Compressed, builder: GraphBuilder, name: str, indices: str) -> str:
        """Add a Gather of codes, and one of scales."""
        weight, scale = (builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("weight", "scale"))
        codes = builder.node("Cast", [builder.node("Gather", [weight, indices], axis=1)], to=_FLOAT)
        centred = builder.node("Sub", [codes, builder.constant(f"{name}.middle", np.array(_ZERO, np.float32))])
        return builder.node("Mul", [centred, builder.node("Gather", [scale, indices])])

    def resident_bytes(self, compressed: Compressed) -> int:
        """ONNX Runtime keeps the weight once, packed, with the sum of every column."""
        return compressed.plan.disk_bytes + 4 * compressed.plan.R

    def encode(self, compressed: Compressed) -> bytes:
        """The arrays, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        expected = {"weight": (np.uint8, (plan.Q, plan.R)), "zero": (np.uint8, ()), "scale": (np.float32, (plan.R,))}
        return checked(decode_arrays(stream), expected)

    def _bytes(self, Q: int, R: int) -> int:
        return Q * R + 4 * R + 1
