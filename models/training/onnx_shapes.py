"""The ONNX operators that `onnx_net` runs: shapes, and which values go where."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.training.onnx_operators import Inputs, Node, given, integers, operator


@operator("Shape")
def _shape(node: Node, inputs: Inputs) -> Tensor:
    shape = given(node, inputs, 0).shape
    return torch.tensor(list(shape)[node.get("start", 0) : node.get("end", len(shape))], dtype=torch.int64)


@operator("Gather")
def _gather(node: Node, inputs: Inputs) -> Tensor:
    x, indices = given(node, inputs, 0), given(node, inputs, 1)
    axis = node.get("axis", 0) % x.dim()
    flat = indices.reshape(-1).to(torch.int64)
    picked = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@operator("Slice")
def _slice(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    starts, ends = integers(node, inputs, 1, "starts"), integers(node, inputs, 2, "ends")
    if starts is None or ends is None:
        raise node.error("needs starts and ends")
    axes = integers(node, inputs, 3, "axes") or list(range(len(starts)))
    steps = integers(node, inputs, 4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = range(x.shape[axis])[start:end:step]
        if step > 0:
            index = (slice(None),) * (axis % x.dim()) + (slice(chosen.start, max(chosen.stop, chosen.start), step),)
            x = x[index]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x


@operator("Concat")
def _concat(node: Node, inputs: Inputs) -> Tensor:
    return torch.cat([given(node, inputs, index) for index in range(len(inputs))], dim=node.get("axis"))


@operator("Split")
def _split(node: Node, inputs: Inputs) -> tuple[Tensor, ...]:
    x, axis = given(node, inputs, 0), node.get("axis", 0)
    lengths = integers(node, inputs, 1, "split")
    if lengths is None:
        share = math.ceil(x.shape[axis] / len(node.outputs))
        return torch.split(x, share, dim=axis)
    return torch.split(x, lengths, dim=axis)


@operator("Reshape")
def _reshape(node: Node, inputs: Inputs) -> Tensor:
    x, shape = given(node, inputs, 0), integers(node, inputs, 1, "shape")
    if shape is None:
        raise node.error("needs a shape")
    if not node.get("allowzero", 0):
        shape = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return x.reshape(shape)


@operator("Flatten")
def _flatten(node: Node, inputs: Inputs) -> Tensor:
    x, axis = given(node, inputs, 0), node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def _transpose(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    return x.permute(node.get("perm", list(range(x.dim()))[::-1]))


@operator("Squeeze")
def _squeeze(node: Node, inputs: Inputs) -> Tensor:
    axes = integers(node, inputs, 1, "axes")
    x = given(node, inputs, 0)
    return x.squeeze() if axes is None else x.squeeze(axes)


@operator("Unsqueeze")
def _unsqueeze(node: Node, inputs: Inputs) -> Tensor:
    x, axes = given(node, inputs, 0), integers(node, inputs, 1, "axes")
    if axes is None:
        raise node.error("needs axes")
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Expand")
def _expand(node: Node, inputs: Inputs) -> Tensor:
    x, shape = given(node, inputs, 0), integers(node, inputs, 1, "shape") or []
    return x.expand(torch.broadcast_shapes(x.shape, shape))  # type: ignore[no-untyped-call]


@operator("Pad")
def _pad(node: Node, inputs: Inputs) -> Tensor:
    x, pads, mode = given(node, inputs, 0), integers(node, inputs, 1, "pads"), node.get("mode", "constant")
    axes = integers(node, inputs, 3, "axes") if len(inputs) > 3 else None
    if pads is None or mode not in ("constant", "edge", "reflect"):
        raise node.error("needs paddings, with mode 'constant', 'edge' or 'reflect'")
    fill = inputs[2] if len(inputs) > 2 else None
    value = node.get("value", 0.0) if fill is None else fill.item()
    axes = list(range(x.dim())) if axes is None else axes
    for number, axis in enumerate(axes):
        before, after = pads[number], pads[number + len(axes)]
        if before == after == 0:
            continue
        last = x.shape[axis] - 1
        places = torch.arange(-before, last + 1 + after)
        if mode == "reflect":
            places = last - (last - places.abs()).abs()
        inside = x.index_select(axis, places.clamp(0, last))
        if mode == "constant":
            outside = ((places < 0) | (places > last)).reshape([-1] + [1] * (x.dim() - axis % x.dim() - 1))
            inside = inside.masked_fill(outside, value)
        x = inside
    return x


@operator("Tile")
def _tile(node: Node, inputs: Inputs) -> Tensor:
    x, repeats = given(node, inputs, 0), integers(node, inputs, 1, "repeats")
    if repeats is None:
        raise node.error("needs repeats")
    return x.repeat(repeats)


@operator("Where")
def _where(node: Node, inputs: Inputs) -> Tensor:
    return torch.where(given(node, inputs, 0), given(node, inputs, 1), given(node, inputs, 2))


@operator("Range")
def _range(node: Node, inputs: Inputs) -> Tensor:
    start, limit, step = (given(node, inputs, index) for index in range(3))
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


@operator("Trilu")
def _trilu(node: Node, inputs: Inputs) -> Tensor:
    diagonal = int(inputs[1].item()) if len(inputs) > 1 and inputs[1] is not None else 0
    return (torch.triu if node.get("upper", 1) else torch.tril)(given(node, inputs, 0), diagonal)
