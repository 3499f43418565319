"""The ONNX operators that `onnx_net` runs: convolutions, pooling, normalisation and GRU layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from models.families.recurrence import GruRecurrence
from models.training.onnx_operators import Inputs, Node, given, operator


def _window(node: Node, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and paddings (all the begins, then all the ends) of a convolution or pooling."""
    axes = len(kernel)
    if axes not in (1, 2) or x.dim() != axes + 2:
        raise node.error("only one and two dimensions are supported")
    strides, dilations = list(node.get("strides", [1] * axes)), list(node.get("dilations", [1] * axes))
    pads, mode = list(node.get("pads", [0] * 2 * axes)), node.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
        total = [
            max((math.ceil(length / stride) - 1) * stride + span - length, 0)
            for length, stride, span in zip(x.shape[2:], strides, reach, strict=True)
        ]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = less + more if mode == "SAME_UPPER" else more + less
    elif mode == "VALID":
        pads = [0] * 2 * axes
    return strides, dilations, pads


def _sides(pads: Sequence[int]) -> list[int]:
    """ONNX's paddings as PyTorch wants them: the last axis first, begin and end of each."""
    axes = len(pads) // 2
    return [side for axis in range(axes - 1, -1, -1) for side in (pads[axis], pads[axis + axes])]


@operator("Conv")
def _conv(node: Node, inputs: Inputs) -> Tensor:
    x, weight = given(node, inputs, 0), given(node, inputs, 1)
    bias = inputs[2] if len(inputs) > 2 else None
    strides, dilations, pads = _window(node, x, weight.shape[2:])
    if any(pads):
        x = functional.pad(x, _sides(pads))
    convolve = functional.conv1d if weight.dim() == 3 else functional.conv2d
    return convolve(x, weight, bias, strides, 0, dilations, node.get("group", 1))


@operator("MaxPool", "AveragePool")
def _pool(node: Node, inputs: Inputs) -> Tensor:
    x, kernel = given(node, inputs, 0), list(node.get("kernel_shape"))
    strides, dilations, pads = _window(node, x, kernel)
    if node.get("ceil_mode", 0) or len(node.outputs) > 1:
        raise node.error("ceil_mode and the output of indices are not supported")
    if node.op == "MaxPool":
        x = functional.pad(x, _sides(pads), value=-math.inf) if any(pads) else x
        return (functional.max_pool1d if len(kernel) == 1 else functional.max_pool2d)(x, kernel, strides, 0, dilations)
    if any(d != 1 for d in dilations) or (any(pads) and not node.get("count_include_pad", 0)):
        raise node.error("dilations, and paddings that are not counted, are not supported")
    x = functional.pad(x, _sides(pads)) if any(pads) else x
    return (functional.avg_pool1d if len(kernel) == 1 else functional.avg_pool2d)(x, kernel, strides)


@operator("GlobalAveragePool")
def _global_average_pool(node: Node, inputs: Inputs) -> Tensor:
    x = given(node, inputs, 0)
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


@operator("BatchNormalization")
def _batch_normalization(node: Node, inputs: Inputs) -> Tensor:
    x, scale, shift, mean, variance = (given(node, inputs, index) for index in range(5))
    if node.get("training_mode", 0):
        raise node.error("training_mode is not supported")
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_normalization(node: Node, inputs: Inputs) -> Tensor:
    x, scale, shift = (given(node, inputs, index) for index in range(3))
    return functional.instance_norm(x, weight=scale, bias=shift, eps=node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_normalization(node: Node, inputs: Inputs) -> Tensor:
    x, scale = given(node, inputs, 0), given(node, inputs, 1)
    shape = x.shape[node.get("axis", -1) % x.dim() :]
    if scale.shape != shape:
        raise node.error(f"a scale of shape {tuple(scale.shape)} for axes of shape {tuple(shape)} is not supported")
    shift = inputs[2] if len(inputs) > 2 else None
    return functional.layer_norm(x, shape, scale, shift, node.get("epsilon", 1e-5))


@operator("GRU")
def _gru(node: Node, inputs: Inputs) -> tuple[Tensor, ...]:
    x, weight, recurrent = (given(node, inputs, index) for index in range(3))
    bias, lengths, initial = (inputs[index] if index < len(inputs) else None for index in (3, 4, 5))
    after = bool(node.get("linear_before_reset", 0))
    plain = node.get("direction", "forward") == "forward" and not node.get("layout", 0) and lengths is None
    if not plain or "activations" in node.attributes or "clip" in node.attributes:
        raise node.error("only forward layers of layout 0 with the usual activations and whole sequences are supported")
    hidden = recurrent.shape[-1]
    # ONNX's gates are z, r, h; the recurrence of the families has r, z, n.
    w, u = _swap(weight[0], hidden), _swap(recurrent[0], hidden)
    b = x.new_zeros(6 * hidden) if bias is None else bias[0]
    to_input, to_state = _swap(b[: 3 * hidden], hidden), _swap(b[3 * hidden :], hidden)
    projected = functional.linear(x, w, to_input)
    if after and (initial is None or not bool(initial.any())):
        outputs: Tensor = GruRecurrence.apply(projected, u, to_state)  # type: ignore[no-untyped-call]
    else:
        start = x.new_zeros(x.shape[1], hidden) if initial is None else initial[0]
        outputs = _steps(projected, u, to_state, start, after=after)
    return outputs.unsqueeze(1), outputs[-1:]


def _swap(values: Tensor, hidden: int) -> Tensor:
    return torch.cat([values[hidden : 2 * hidden], values[:hidden], values[2 * hidden :]])


def _steps(projected: Tensor, u: Tensor, bias: Tensor, state: Tensor, *, after: bool) -> Tensor:
    """A GRU step by step; `after`: the reset gate works on the recurrent product, otherwise on the state."""
    hidden = state.shape[-1]
    outputs = []
    for gates in projected:
        product = functional.linear(state, u[: 2 * hidden], bias[: 2 * hidden])
        reset, update = torch.sigmoid(gates[:, : 2 * hidden] + product).chunk(2, dim=-1)
        if after:
            new = reset * functional.linear(state, u[2 * hidden :], bias[2 * hidden :])
        else:
            new = functional.linear(reset * state, u[2 * hidden :], bias[2 * hidden :])
        new = torch.tanh(gates[:, 2 * hidden :] + new)
        state = torch.lerp(new, state, update)
        outputs.append(state)
    return torch.stack(outputs)
