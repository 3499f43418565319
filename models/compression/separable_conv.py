"""Separable convolutions: a kernel as a column of taps followed by a row of taps (Cheng et al., arXiv 1511.06067)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compression.base import (
    Array,
    Calibration,
    Compressed,
    CompressionError,
    GraphBuilder,
    Matrix,
    Plan,
    finish,
)
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.deepthin import balanced, truncated_svd
from models.compression.least_squares import Real, alternate
from models.compression.stored import budget, checked


class SeparableConv:
    """A kernel [N, C, kh, kw] as K filters of one column, then N of one row.

    The kernel reshaped to ``(C · kh) x (kw · N)`` is cut to rank K by its SVD.

    Attributes:
        only_convolutions: weights of other layers are none of its business.
    """

    name = "separable-conv"
    summary = "a 2-D convolution as one with a column of taps and one with a row of taps, plain ONNX nodes"
    source = "Cheng et al., arXiv 1511.06067"
    only_convolutions = True

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """Those of a kernel with one tap; `conv_sizes` has those of a kernel whose taps are known."""
        return self.conv_sizes((R, Q, 1, 1))

    def conv_sizes(self, shape: Sequence[int]) -> tuple[float, float]:
        """Smallest and largest relative size of a kernel [N, C, kh, kw]: of rank 1, and of the rank that is exact.

        Raises:
            CompressionError: the kernel has not four axes.
        """
        N, C, kh, kw = _kernel(shape)
        each = (C * kh + kw * N) / (N * C * kh * kw)
        return each, min(C * kh, kw * N) * each

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """There is none for a matrix.

        Raises:
            CompressionError: always.
        """
        raise CompressionError(f"{self.name} takes the kernels of 2-D convolutions and no {Q} x {R} matrix")

    def plan_conv(self, shape: Sequence[int], relative_size: float) -> Plan:
        """The largest number of filters K between the two convolutions that the size allows.

        Raises:
            SizeError: not even one fits; the message names the reachable range.
            CompressionError: the kernel has not four axes.
        """
        N, C, kh, kw = _kernel(shape)
        Q = C * kh * kw
        allowed = budget(self.name, Q, N, relative_size, self.conv_sizes(shape))
        each = 4 * (C * kh + kw * N)
        K = min(allowed // each, C * kh, kw * N)
        return Plan(self.name, Q, N, K * each, {"K": K, "N": N, "C": C, "kh": kh, "kw": kw})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Truncated SVD of the reshaped kernel; with calibration, least squares for both filters in turn."""
        left, right, _ = truncated_svd(_placed(weight, plan), int(plan.geometry["K"]))
        plain = self._finish(weight, plan, left, right, calibration)
        if calibration is None:
            return plain
        left, right = alternate(
            weight,
            calibration.damped(),
            left,
            right,
            take=lambda product: _taken(product, plan),
            place=lambda matrix: _placed(matrix, plan),
        )
        aware = self._finish(weight, plan, left, right, calibration)
        return min(aware, plain, key=lambda result: result.output_error or 0.0)

    def _finish(
        self, weight: Matrix, plan: Plan, left: Real, right: Real, calibration: Calibration | None
    ) -> Compressed:
        left, right = balanced(left, right)
        N, C, kh, kw, K = (int(plan.geometry[key]) for key in ("N", "C", "kh", "kw", "K"))
        vertical = left.T.reshape(K, C, kh, 1)
        horizontal = right.reshape(K, N, 1, kw).transpose(1, 0, 2, 3)
        arrays = {
            "vertical": np.ascontiguousarray(vertical, np.float32),
            "horizontal": np.ascontiguousarray(horizontal, np.float32),
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The matrix of the kernel that the two convolutions amount to."""
        plan, K = compressed.plan, int(compressed.plan.geometry["K"])
        left = compressed.arrays["vertical"].reshape(K, -1).T
        right = compressed.arrays["horizontal"].transpose(1, 0, 2, 3).reshape(K, -1)
        return _taken(left @ right, plan)

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Not as a product.

        Raises:
            CompressionError: always; `export_conv` it is.
        """
        raise CompressionError(f"{name}: {self.name} stands for a convolution and not for a matrix product")

    def export_conv(
        self,
        compressed: Compressed,
        builder: GraphBuilder,
        name: str,
        x: str,
        bias: str | None,
        attributes: Mapping[str, Any],
    ) -> str:
        """Add a Conv with a column of taps and a Conv with a row of taps, each with its axis' strides and padding.

        Raises:
            CompressionError: the convolution is one of groups, or of another kernel.
        """
        geometry = compressed.plan.geometry
        taps = [int(geometry["kh"]), int(geometry["kw"])]
        if attributes.get("group", 1) != 1:
            raise CompressionError(f"{name}: {self.name} takes no convolution in groups")
        if [int(size) for size in attributes.get("kernel_shape", taps)] != taps:
            raise CompressionError(f"{name}: the kernel is {taps[0]} x {taps[1]}, not {attributes['kernel_shape']}")
        for axis, key in enumerate(("vertical", "horizontal")):
            own: dict[str, Any] = {"kernel_shape": [size if a == axis else 1 for a, size in enumerate(taps)]}
            for kind in ("strides", "dilations"):
                if kind in attributes:
                    own[kind] = [int(step) if a == axis else 1 for a, step in enumerate(attributes[kind])]
            if "pads" in attributes:
                own["pads"] = [int(pad) if a % 2 == axis else 0 for a, pad in enumerate(attributes["pads"])]
            if "auto_pad" in attributes:
                own["auto_pad"] = attributes["auto_pad"]
            inputs = [x, builder.constant(f"{name}.{key}", compressed.arrays[key])]
            x = builder.node("Conv", [*inputs, bias] if bias is not None and axis == 1 else inputs, **own)
        return x

    def resident_bytes(self, compressed: Compressed) -> int:
        """ONNX Runtime keeps the filters once."""
        return compressed.plan.disk_bytes

    def encode(self, compressed: Compressed) -> bytes:
        """The filters, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The filters of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        N, C, kh, kw, K = (int(plan.geometry[key]) for key in ("N", "C", "kh", "kw", "K"))
        expected = {"vertical": (np.float32, (K, C, kh, 1)), "horizontal": (np.float32, (N, K, 1, kw))}
        return checked(decode_arrays(stream), expected)


def _kernel(shape: Sequence[int]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        axes = " x ".join(map(str, shape))
        raise CompressionError(f"separable-conv takes kernels of four axes, [N, C, kh, kw], and not {axes}")
    N, C, kh, kw = (int(size) for size in shape)
    return N, C, kh, kw


def _placed(weight: npt.NDArray[np.floating], plan: Plan) -> Real:
    """The kernel's matrix [C · kh · kw, N] as [C · kh, N · kw]."""
    kw = int(plan.geometry["kw"])
    return weight.astype(np.float64).reshape(-1, kw, plan.R).transpose(0, 2, 1).reshape(-1, plan.R * kw)


def _taken(product: npt.NDArray[np.floating], plan: Plan) -> Matrix:
    """The inverse of `_placed`."""
    kw = int(plan.geometry["kw"])
    return product.astype(np.float32).reshape(-1, plan.R, kw).transpose(0, 2, 1).reshape(plan.Q, plan.R)
