"""Weights of 4, 3 or 2 bits whose scales are stored in 8 bits each, as ONNX Runtime runs them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.int4 import BLOCK, INT8_INPUTS, block_codes, block_scales, lookup, packed, unpacked, widened
from models.compression.stored import OneSize, add_bias, checked

_STEPS: Final = 127
_FLOAT: Final = 1  # onnx.TensorProto.FLOAT
_BYTES: Final = 2  # onnx.TensorProto.UINT8


class Compact(OneSize):
    """Whole numbers of a few bits times a scale per block of 32 inputs and output.

    The scales of an output are whole numbers of -127 to 127 times one step, which a session multiplies out when it
    starts; weights of 3 bits become the 4 that ONNX Runtime knows then. It rounds the inputs to int8. With 4, 3 and 2
    bits that makes .134, .103 and .071 of float32 where Q is a multiple of 32 and large.
    """

    source = "ONNX Runtime; scales of scales: QLoRA, arXiv 2305.14314; rounding: GPTQ, arXiv 2210.17323"

    def __init__(self, name: str, bits: int) -> None:
        """`bits`: 4, 3 or 2; ONNX Runtime runs 2 on every processor from 1.22 on."""
        self.name = name
        self.summary = f"{bits}-bit weights in blocks of 32 with 8-bit scales through ONNX Runtime's MatMulNBits"
        self._bits = bits
        self._runs = 4 if bits == 3 else bits
        self._lowest = -(1 << (bits - 1))

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Round `weight` [Q, R]; with calibration, so that the errors of an output's inputs make up for each other."""
        moment = None if calibration is None else calibration.damped()
        wished = block_scales(weight, moment, self._lowest)
        peak = np.abs(wished).max(axis=0)
        step = np.where(peak > 0, peak / _STEPS, 1.0).astype(np.float32)
        # A scale of zero would make a block of zeros of values that are merely small beside the others.
        steps = np.where(wished < 0, -1, 1) * np.maximum(np.rint(np.abs(wished) / step), 1)
        scale = (steps * step).astype(np.float32)
        codes = block_codes(weight, scale, moment, self._lowest)
        arrays: dict[str, Array] = {
            "weight": packed(codes, self._bits).reshape(plan.R, len(scale), -1),
            "scale": np.ascontiguousarray(steps.T.astype(np.int8)),
            "step": step[:, None],
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The rounded weight."""
        plan, arrays = compressed.plan, compressed.arrays
        codes = unpacked(arrays["weight"], self._bits).astype(np.float32) + np.float32(self._lowest)
        blocks = codes * (arrays["scale"].astype(np.float32) * arrays["step"])[:, :, None]
        weight: Matrix = np.ascontiguousarray(blocks.reshape(plan.R, -1)[:, : plan.Q].T)
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a MatMulNBits (and Add), and what multiplies out its scales."""
        plan, arrays = compressed.plan, compressed.arrays
        weight, codes, step = (builder.constant(f"{name}.{key}", arrays[key]) for key in ("weight", "scale", "step"))
        if self._bits == 3:
            blocks = arrays["weight"].shape[1]
            weight = builder.prepared(weight, partial(_whole, name=name, codes=weight, blocks=blocks))
        flat = builder.prepared(f"{codes} {step}", partial(_flat, name=name, codes=codes, step=step))
        shape = {"K": plan.Q, "N": plan.R, "bits": self._runs, "block_size": BLOCK, "accuracy_level": INT8_INPUTS}
        y = builder.node("MatMulNBits", [x, weight, flat], domain="com.microsoft", **shape)
        return add_bias(builder, y, bias)

    def export_lookup(self, compressed: Compressed, builder: GraphBuilder, name: str, indices: str) -> str:
        """Add Gathers of bytes, scales and steps, and what takes the bytes apart."""
        arrays = compressed.arrays
        codes, step = (
            builder.node("Gather", [builder.constant(f"{name}.{key}", arrays[key]), indices], axis=0)
            for key in ("scale", "step")
        )
        scales = builder.node("Mul", [builder.node("Cast", [codes], to=_FLOAT), step])
        scale = builder.node("Unsqueeze", [scales, builder.constant(f"{name}.last", np.array([-1], np.int64))])
        geometry = {"Q": compressed.plan.Q, "bits": self._bits}
        return lookup(builder, name, indices, arrays["weight"], scale, geometry)

    def resident_bytes(self, compressed: Compressed) -> int:
        """ONNX Runtime keeps the weight packed, the scales multiplied out, twice, and as many sums of blocks."""
        scales = compressed.arrays["scale"].size
        return compressed.plan.disk_bytes + scales * (BLOCK * (self._runs - self._bits) // 8 + 3 * 4)

    def encode(self, compressed: Compressed) -> bytes:
        """The arrays, coded without loss, the codes one by one."""
        arrays = dict(compressed.arrays)
        arrays["weight"] = unpacked(arrays["weight"], self._bits)
        return encode_arrays(arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        blocks = -(-plan.Q // BLOCK)
        expected = {
            "weight": (np.uint8, (plan.R, blocks, BLOCK)),
            "scale": (np.int8, (plan.R, blocks)),
            "step": (np.float32, (plan.R, 1)),
        }
        arrays = checked(decode_arrays(stream), expected)
        arrays["weight"] = packed(arrays["weight"], self._bits)
        return arrays

    def _geometry(self) -> dict[str, int]:
        return {"bits": self._bits, "block": BLOCK}

    def _bytes(self, Q: int, R: int) -> int:
        blocks = -(-Q // BLOCK)
        return R * (blocks * (BLOCK * self._bits // 8 + 1) + 4)


def _flat(builder: GraphBuilder, name: str, codes: str, step: str) -> str:
    """The scales, as MatMulNBits takes them."""
    scales = builder.node("Mul", [builder.node("Cast", [codes], to=_FLOAT), step])
    return builder.node("Reshape", [scales, builder.constant(f"{name}.flat", np.array([-1], np.int64))])


def _whole(builder: GraphBuilder, name: str, codes: str, blocks: int) -> str:
    """The 4-bit codes of 3-bit ones, as MatMulNBits takes them."""
    return builder.node("Cast", [widened(builder, name, codes, blocks)], to=_BYTES)


INT4: Final = Compact("int4-compact", 4)
INT3: Final = Compact("int3-compact", 3)
INT2: Final = Compact("int2-compact", 2)
