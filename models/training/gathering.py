"""Matrices whose entries are a few stored values, picked by index: forward and backward passes for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Gathered(torch.autograd.Function):
    """Entries that are stored values, several of them the same one.

    The gradient of a stored value is the sum of the gradients of its members (Han et al., arXiv 1510.00149, figure 3).
    PyTorch's own backward pass of indexing does the same; counting bins is a few times faster, and more exact.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        """`values` [K] at `index` (int64, any shape)."""
        ctx.save_for_backward(index)
        ctx.count = len(values)
        return values.index_select(0, index.reshape(-1)).reshape(index.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The sum over the members of each value."""
        (index,) = ctx.saved_tensors
        sums = torch.bincount(index.reshape(-1), gradient.reshape(-1).double(), minlength=ctx.count)
        return sums.to(gradient.dtype), None


class Permuted(torch.autograd.Function):
    """Entries that are stored values, no two of them the same one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor) -> Tensor:
        """`values` [K] at `index` (int64, one dimension, all different)."""
        ctx.save_for_backward(index)
        ctx.count = len(values)
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Each gradient where its value was."""
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.count).scatter_(0, index, gradient), None


def gathered(values: Tensor, index: Tensor) -> Tensor:
    """See `Gathered`."""
    result: Tensor = Gathered.apply(values, index)  # type: ignore[no-untyped-call]
    return result


def permuted(values: Tensor, index: Tensor) -> Tensor:
    """See `Permuted`."""
    result: Tensor = Permuted.apply(values, index)  # type: ignore[no-untyped-call]
    return result


def placed(values: Tensor, index: Tensor, count: int) -> Tensor:
    """A row of `count` zeros with `values` at `index` (all different): only they have a gradient."""
    return values.new_zeros(count).scatter(0, index, values)
