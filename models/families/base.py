"""What training, export and distillation ask of a speech network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AcousticNet(nn.Module):
    """A network from features to CTC log posteriors over valid windows only.

    Attributes:
        bins: features per frame.
        units: outputs, the CTC blank first.
        subsampling: feature frames per output frame.
        left_context: feature frames needed before the first one; the caller repeats the first frame.
        right_context: the same after the last one.
    """

    bins: int
    units: int
    subsampling: int
    left_context: int
    right_context: int

    def forward(self, features: Tensor) -> Tensor:
        """Features [batch, left + frames + right, bins] to log posteriors [batch, out_frames, units]."""
        raise NotImplementedError

    def out_frames(self, frames: int) -> int:
        """Output frames for so many feature frames (context not counted)."""
        return (frames - 1) // self.subsampling + 1


def splice(x: Tensor, width: int, stride: int = 1) -> Tensor:
    """Windows of `width` frames every `stride` frames: [batch, frames, dim] to [batch, windows, width * dim]."""
    windows = x.unfold(1, width, stride).transpose(2, 3)
    return windows.reshape(windows.shape[0], windows.shape[1], -1)


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply an activation by the name that the op library uses; "" is none."""
    if activation == "relu":
        return torch.relu(x)
    if activation == "sigmoid":
        return torch.sigmoid(x)
    if activation == "clipped_relu":
        return torch.clamp(x, 0.0, 20.0)
    if activation == "":
        return x
    raise ValueError(f"unknown activation {activation!r}")


class FusedLinear(nn.Linear):
    """A fully connected layer that applies its activation along with the product."""

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """[..., in_features] to [..., out_features], activation applied."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]."""
        return self.activated(x, "")


def linear(layer: nn.Module, x: Tensor, activation: str = "") -> Tensor:
    """A fully connected layer and its activation, in one step where the layer can."""
    if isinstance(layer, FusedLinear):
        return layer.activated(x, activation)
    return activate(layer(x), activation)
