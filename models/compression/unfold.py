"""A convolution as a matrix product over unfolded inputs, so that its weight can stay compressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compression.base import Compressed, Method
from models.compression.builder import OnnxBuilder
from models.compression.network import Layer

_END = int(np.iinfo(np.int64).max)


def geometry(shape: tuple[int, ...], fixed: Mapping[str, Any]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, dilations and pads (all starts, then all ends) of a Conv with these attributes."""
    kernel = list(shape[2:])
    strides = list(fixed.get("strides", [1] * len(kernel)))
    dilations = list(fixed.get("dilations", [1] * len(kernel)))
    auto = fixed.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        total = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
        small, large = [each // 2 for each in total], [each - each // 2 for each in total]
        pads = [*small, *large] if auto == b"SAME_UPPER" else [*large, *small]
    elif auto == b"VALID":
        pads = [0] * 2 * len(kernel)
    else:
        pads = list(fixed.get("pads", [0] * 2 * len(kernel)))
    return kernel, strides, dilations, pads


def export_unfolded(
    method: Method,
    compressed: Compressed,
    builder: OnnxBuilder,
    layer: Layer,
    x: str,
    bias: str | None,
    fixed: Mapping[str, Any],
) -> str:
    """Add the convolution of `x` [batch, C, ...]; returns the name of the output [batch, N, ...]."""
    kernel, strides, dilations, pads = geometry(layer.shape, fixed)
    axes = len(kernel)
    if any(pads):
        x = builder.node("Pad", [x, builder.integers(0, 0, *pads[:axes], 0, 0, *pads[axes:])])
    taps = []
    for tap in np.ndindex(*kernel):
        first = [index * dilation for index, dilation in zip(tap, dilations, strict=True)]
        reach = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
        last = [start - end or _END for start, end in zip(first, reach, strict=True)]
        ranges = (first, last, range(2, 2 + axes), strides)
        taps.append(builder.node("Slice", [x, *(builder.integers(*each) for each in ranges)]))
    # [batch, C, taps, ...] to [batch, C * taps, ...]: the channel varies slowest, as in the kernel.
    axis = builder.integers(2)
    stacked = builder.node("Concat", [builder.node("Unsqueeze", [tap, axis]) for tap in taps], axis=2)
    shape = builder.node("Shape", [taps[0]])
    ends = [
        builder.node("Slice", [shape, builder.integers(0), builder.integers(1)]),
        builder.integers(layer.Q),
        builder.node("Slice", [shape, builder.integers(2), builder.integers(_END)]),
    ]
    rows = builder.node("Reshape", [stacked, builder.node("Concat", ends, axis=0)])
    last_channels = builder.node("Transpose", [rows], perm=[0, *range(2, 2 + axes), 1])
    y = method.export(compressed, builder, layer.name, last_channels, bias)
    return builder.node("Transpose", [y], perm=[0, 1 + axes, *range(1, 1 + axes)])


def unfold(x: npt.NDArray[Any], shape: tuple[int, ...], fixed: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The rows [batch * positions, Q] that a Conv with a kernel of `shape` multiplies, for an input [batch, C, ...]."""
    kernel, strides, dilations, pads = geometry(shape, fixed)
    axes = len(kernel)
    width = [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)]
    padded = np.pad(x, width)
    spans = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
    places = tuple(slice(None, None, stride) for stride in strides)
    within = tuple(slice(None, None, dilation) for dilation in dilations)
    windows = windows[(slice(None), slice(None), *places, *within)]
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
    return np.ascontiguousarray(windows.transpose(order)).reshape(-1, int(np.prod(shape[1:])))
