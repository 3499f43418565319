"""Four-bit weights with a scale per 32 inputs of an output, as ONNX Runtime runs them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.rounding import Rows, compensate, descend
from models.compression.stored import add_bias, budget, checked

_BLOCK = 32
_ZERO = 8
_LOWEST, _HIGHEST = -8, 7
_SHRINKINGS = np.linspace(1.0, 0.6, 17)
_INT8_INPUTS = 4  # MatMulNBits' accuracy_level


class Int4:
    """Whole numbers of -8 to 7 times a scale per block of 32 inputs and output; ONNX Runtime rounds inputs to int8."""

    name = "int4"
    summary = "4-bit weights in blocks of 32 through ONNX Runtime's MatMulNBits"
    source = "ONNX Runtime; data-aware rounding: GPTQ, arXiv 2210.17323, and QuantEase, arXiv 2309.01885"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """The one size there is, 5/32 where Q is a multiple of 32."""
        size = self._bytes(Q, R) / (4 * Q * R)
        return size, size

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The one plan there is.

        Raises:
            SizeError: less was wished for.
        """
        budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        return Plan(self.name, Q, R, self._bytes(Q, R), {"bits": 4, "block": _BLOCK})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Round `weight` [Q, R]; with calibration, so that the errors of an output's inputs make up for each other."""
        moment = None if calibration is None else calibration.damped()
        scale = _scales(weight, np.ones(plan.Q) if moment is None else np.diag(moment))

        def choose(row: int, wished: Rows, curvature: float) -> Rows:
            steps = scale[row // _BLOCK]
            values: Rows = np.clip(np.rint(wished / steps), _LOWEST, _HIGHEST) * steps
            return values

        rounded = weight
        if moment is not None:
            rounded = descend(weight, compensate(weight, moment, choose), moment, choose)
        steps = np.repeat(scale, _BLOCK, axis=0)[: plan.Q]
        codes = np.full((plan.R, len(scale) * _BLOCK), _ZERO, np.uint8)
        codes[:, : plan.Q] = (np.clip(np.rint(rounded / steps), _LOWEST, _HIGHEST) + _ZERO).T
        packed = codes[:, ::2] | codes[:, 1::2] << 4
        arrays = {"weight": packed.reshape(plan.R, len(scale), _BLOCK // 2), "scale": scale.T.reshape(-1).copy()}
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The rounded weight."""
        plan, packed = compressed.plan, compressed.arrays["weight"]
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(plan.R, -1, _BLOCK).astype(np.float32)
        blocks = (codes - _ZERO) * compressed.arrays["scale"].reshape(plan.R, -1, 1)
        weight: Matrix = np.ascontiguousarray(blocks.reshape(plan.R, -1)[:, : plan.Q].T)
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a MatMulNBits (and Add)."""
        inputs = [x, *(builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("weight", "scale"))]
        shape = {"K": compressed.plan.Q, "N": compressed.plan.R, "bits": 4, "block_size": _BLOCK}
        y = builder.node("MatMulNBits", inputs, domain="com.microsoft", accuracy_level=_INT8_INPUTS, **shape)
        return add_bias(builder, y, bias)

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
        blocks = -(-plan.Q // _BLOCK)
        expected = {"weight": (np.uint8, (plan.R, blocks, _BLOCK // 2)), "scale": (np.float32, (plan.R * blocks,))}
        return checked(decode_arrays(stream), expected)

    def _bytes(self, Q: int, R: int) -> int:
        return R * -(-Q // _BLOCK) * (_BLOCK // 2 + 4)


def _scales(weight: Matrix, curvature: npt.NDArray[np.float64]) -> Rows:
    """The scale of each block, float32 [blocks, R]: the one of a few with the least weighted error."""
    Q, R = weight.shape
    padding = -Q % _BLOCK
    blocks = np.pad(weight, ((0, padding), (0, 0))).reshape(-1, _BLOCK, R)
    weights = np.pad(curvature, (0, padding)).astype(np.float32).reshape(-1, _BLOCK, 1)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)[:, 0]
    # The code of the largest value is -8, the one that has no counterpart: a scale may be negative.
    widest = np.where(extreme != 0, extreme / _LOWEST, 1.0).astype(np.float32)
    best, least = widest, np.full(widest.shape, np.inf, np.float32)
    for shrinking in _SHRINKINGS:
        steps = (widest * shrinking).astype(np.float32)[:, None]
        error = np.square(np.clip(np.rint(blocks / steps), _LOWEST, _HIGHEST) * steps - blocks)
        cost = (weights * error).sum(axis=1)
        best = np.where(cost < least, steps[:, 0], best)
        least = np.minimum(cost, least)
    return best
