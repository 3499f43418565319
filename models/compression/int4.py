"""Four-bit weights with a scale per 32 inputs of an output, as ONNX Runtime runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.rounding import Moment, Rows, compensate, descend
from models.compression.stored import OneSize, add_bias, checked

BLOCK: Final = 32
"""Inputs that share a scale."""
INT8_INPUTS: Final = 4
"""The `accuracy_level` with which MatMulNBits rounds its inputs to int8."""

_LOWEST: Final = -8
_SHRINKINGS = np.linspace(1.0, 0.6, 17)
_FLOAT = 1  # onnx.TensorProto.FLOAT


class Int4(OneSize):
    """Whole numbers of -8 to 7 times a scale per block of 32 inputs and output; ONNX Runtime rounds inputs to int8.

    That makes 5/32 of float32 where Q is a multiple of 32.
    """

    name = "int4"
    summary = "4-bit weights in blocks of 32 through ONNX Runtime's MatMulNBits"
    source = "ONNX Runtime; data-aware rounding: GPTQ, arXiv 2210.17323, and QuantEase, arXiv 2309.01885"

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Round `weight` [Q, R]; with calibration, so that the errors of an output's inputs make up for each other."""
        moment = None if calibration is None else calibration.damped()
        scale = block_scales(weight, moment, _LOWEST)
        codes = block_codes(weight, scale, moment, _LOWEST)
        nibbles = packed(codes, 4).reshape(plan.R, len(scale), BLOCK // 2)
        arrays = {"weight": nibbles, "scale": scale.T.reshape(-1).copy()}
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The rounded weight."""
        plan = compressed.plan
        codes = unpacked(compressed.arrays["weight"], 4).reshape(plan.R, -1, BLOCK).astype(np.float32)
        blocks = (codes + np.float32(_LOWEST)) * compressed.arrays["scale"].reshape(plan.R, -1, 1)
        weight: Matrix = np.ascontiguousarray(blocks.reshape(plan.R, -1)[:, : plan.Q].T)
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a MatMulNBits (and Add)."""
        inputs = [x, *(builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("weight", "scale"))]
        shape = {"K": compressed.plan.Q, "N": compressed.plan.R, "bits": 4, "block_size": BLOCK}
        y = builder.node("MatMulNBits", inputs, domain="com.microsoft", accuracy_level=INT8_INPUTS, **shape)
        return add_bias(builder, y, bias)

    def export_lookup(self, compressed: Compressed, builder: GraphBuilder, name: str, indices: str) -> str:
        """Add a Gather of bytes and one of scales, and what takes the bytes apart."""
        weight, blocks = compressed.arrays["weight"], compressed.arrays["weight"].shape[1]
        first = builder.node("Mul", [indices, builder.constant(f"{name}.blocks", np.array(blocks, np.int64))])
        apart = builder.node("Unsqueeze", [first, builder.constant(f"{name}.last", np.array([-1], np.int64))])
        which = builder.node("Add", [apart, builder.constant(f"{name}.each", np.arange(blocks))])
        scales = builder.node("Gather", [builder.constant(f"{name}.scale", compressed.arrays["scale"]), which])
        scale = builder.node("Unsqueeze", [scales, builder.constant(f"{name}.last", np.array([-1], np.int64))])
        return lookup(builder, name, indices, weight, scale, {"Q": compressed.plan.Q, "bits": 4})

    def resident_bytes(self, compressed: Compressed) -> int:
        """ONNX Runtime keeps the weight packed, the scales twice and as many sums of blocks."""
        return compressed.plan.disk_bytes + 2 * compressed.arrays["scale"].nbytes

    def encode(self, compressed: Compressed) -> bytes:
        """The arrays, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        blocks = -(-plan.Q // BLOCK)
        expected = {"weight": (np.uint8, (plan.R, blocks, BLOCK // 2)), "scale": (np.float32, (plan.R * blocks,))}
        return checked(decode_arrays(stream), expected)

    def _geometry(self) -> dict[str, int]:
        return {"bits": 4, "block": BLOCK}

    def _bytes(self, Q: int, R: int) -> int:
        return R * -(-Q // BLOCK) * (BLOCK // 2 + 4)


def block_scales(weight: Matrix, moment: Moment | None, lowest: int) -> Rows:
    """The scale of each block of inputs, float32 [blocks, R]: the one of a few with the least weighted error.

    Args:
        weight: [Q, R].
        moment: [Q, Q], the inputs' second moment, or None where it is not known.
        lowest: of the codes, which go up to ``-lowest - 1``.
    """
    Q, R = weight.shape
    padding = -Q % BLOCK
    curvature = np.ones(Q) if moment is None else np.diag(moment)
    blocks = np.pad(weight, ((0, padding), (0, 0))).reshape(-1, BLOCK, R)
    weights = np.pad(curvature, (0, padding)).astype(np.float32).reshape(-1, BLOCK, 1)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)[:, 0]
    # The code of the largest value is the lowest, the one that has no counterpart: a scale may be negative.
    widest = np.where(extreme != 0, extreme / lowest, 1.0).astype(np.float32)
    best, least = widest, np.full(widest.shape, np.inf, np.float32)
    for shrinking in _SHRINKINGS:
        steps = (widest * shrinking).astype(np.float32)[:, None]
        error = np.square(np.clip(np.rint(blocks / steps), lowest, -lowest - 1) * steps - blocks)
        cost = (weights * error).sum(axis=1)
        best = np.where(cost < least, steps[:, 0], best)
        least = np.minimum(cost, least)
    return best


def block_codes(weight: Matrix, scale: Rows, moment: Moment | None, lowest: int) -> Array:
    """The codes of a weight, less `lowest`: uint8 [R, blocks * BLOCK], padded with those of zeros.

    Args:
        weight: [Q, R].
        scale: [blocks, R].
        moment: [Q, Q], with which the errors of an output's inputs make up for each other, or None.
        lowest: of the codes, which go up to ``-lowest - 1``.
    """
    Q, R = weight.shape

    def choose(row: int, wished: Rows, curvature: float) -> Rows:
        steps = scale[row // BLOCK]
        values: Rows = np.clip(np.rint(wished / steps), lowest, -lowest - 1) * steps
        return values

    rounded = weight
    if moment is not None:
        rounded = descend(weight, compensate(weight, moment, choose), moment, choose)
    steps = np.repeat(scale, BLOCK, axis=0)[:Q]
    codes = np.full((R, len(scale) * BLOCK), -lowest, np.uint8)
    codes[:, :Q] = (np.clip(np.rint(rounded / steps), lowest, -lowest - 1) - lowest).T
    return codes


def unpacked(stored: Array, bits: int) -> Array:
    """Codes [..., count] of bytes [..., count * bits / 8], the first in the low bits; eight of 3 bits in three."""
    parts: list[Array]
    if bits == 3:
        words = stored.reshape(*stored.shape[:-1], -1, 3).astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
        parts = [(words >> shift & 7).astype(np.uint8) for shift in range(0, 24, 3)]
    else:
        parts = [stored >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*stored.shape[:-1], -1)


def packed(codes: Array, bits: int) -> Array:
    """The inverse of `unpacked`."""
    if bits == 3:
        each = codes.reshape(*codes.shape[:-1], -1, 8).astype(np.uint32) & 7
        words = np.bitwise_or.reduce(each << np.arange(0, 24, 3, dtype=np.uint32), axis=-1)
        parts = np.stack([words >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
        return parts.reshape(*codes.shape[:-1], -1)
    each = codes.reshape(*codes.shape[:-1], -1, 8 // bits) & ((1 << bits) - 1)
    whole: Array = np.bitwise_or.reduce(each << np.arange(0, 8, bits, dtype=np.uint8), axis=-1).astype(np.uint8)
    return whole


def widened(builder: GraphBuilder, name: str, codes: str, blocks: int) -> str:
    """Add what makes 4-bit codes, whose zero is 8, of 3-bit ones, whose zero is 4.

    Args:
        builder: the graph.
        name: the weight's name.
        codes: name of uint8 [rows, blocks, 12], as `packed` makes them.
        blocks: in a row.

    Returns:
        The name of float32 [rows, blocks, 16], whole numbers of 0 to 255.
    """

    def numbers(*values: float) -> str:
        return builder.constant(f"{name}.numbers", np.array(values, np.float32))

    def integers(*values: int) -> str:
        return builder.constant(f"{name}.integers", np.array(values, np.int64))

    # Floats hold words of three bytes exactly, and every version has the operators.
    apart = builder.node("Reshape", [builder.node("Cast", [codes], to=_FLOAT), integers(-1, 3)])
    places = builder.constant(f"{name}.places", np.array([[1], [1 << 8], [1 << 16]], np.float32))
    shifted = builder.node("Div", [builder.node("MatMul", [apart, places]), numbers(*(64.0**k for k in range(5)))])
    shifted = builder.node("Floor", [shifted])
    ones, others = (
        builder.node("Slice", [shifted, integers(first), integers(first + 4), integers(1)]) for first in (0, 1)
    )
    pairs = builder.node("Sub", [ones, builder.node("Mul", [others, numbers(64.0)])])
    second = builder.node("Floor", [builder.node("Div", [pairs, numbers(8.0)])])
    # A pair is first + 8 second: first + 16 second and a zero that is 4 higher in both.
    bytes_ = builder.node("Add", [pairs, builder.node("Mul", [second, numbers(8.0)])])
    moved = builder.node("Add", [bytes_, numbers(4.0 + 64.0)])
    return builder.node("Reshape", [moved, integers(-1, blocks, BLOCK // 2)])


def lookup(
    builder: GraphBuilder, name: str, indices: str, weight: Array, scale: str, geometry: Mapping[str, int]
) -> str:
    """Add what gives columns [Q, count] of a weight whose codes are packed as MatMulNBits has them.

    Args:
        builder: the graph.
        name: the weight's name.
        indices: name of the columns that are wanted.
        weight: uint8 [R, blocks, bytes]; those of 3 bits as `packed` makes them.
        scale: name of the scales of those columns, [count, blocks, 1].
        geometry: `Q` and `bits`.
    """
    Q, bits = geometry["Q"], geometry["bits"]
    blocks = weight.shape[1]

    def number(value: float) -> str:
        return builder.constant(f"{name}.number", np.array(value, np.float32))

    rows = builder.node("Gather", [builder.constant(f"{name}.weight", weight), indices], axis=0)
    if bits == 3:
        left, bits = widened(builder, name, rows, blocks), 4
    else:
        left = builder.node("Cast", [rows], to=_FLOAT)
    codes = []
    axis = builder.constant(f"{name}.last", np.array([-1], np.int64))
    for _ in range(8 // bits):
        # Floats, for which every version has the operators, hold bytes exactly.
        higher = builder.node("Floor", [builder.node("Div", [left, number(1 << bits)])])
        code = builder.node("Sub", [left, builder.node("Mul", [higher, number(1 << bits)])])
        codes.append(builder.node("Unsqueeze", [code, axis]))
        left = higher
    form = builder.constant(f"{name}.form", np.array([-1, blocks, BLOCK], np.int64))
    whole = builder.node("Reshape", [builder.node("Concat", codes, axis=-1), form])
    values = builder.node("Mul", [builder.node("Sub", [whole, number(1 << (bits - 1))]), scale])
    flat = builder.node("Reshape", [values, builder.constant(f"{name}.rows", np.array([-1, blocks * BLOCK], np.int64))])
    if blocks * BLOCK > Q:
        ends = [builder.constant(f"{name}.end", np.array([end], np.int64)) for end in (0, Q, 1)]
        flat = builder.node("Slice", [flat, *ends])
    return builder.node("Transpose", [flat], perm=[1, 0])
