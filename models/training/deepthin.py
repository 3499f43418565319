"""DeepThin weights inside PyTorch networks, trained by back-propagation.

Source: Sotoudeh and Baghsorkhi, arXiv 1802.06944. `ops.layout` has the geometry, `ops.training` the arithmetic of fully
connected layers, whose weight is never built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

from models.compression.deepthin import factorise
from models.families.base import FusedLinear, activate
from models.families.deepspeech import Gru
from models.training.deepthin_recurrence import DeepThinRecurrence
from ops import training
from ops.layout import Geometry

WORTH = 2 / 3
"""A layer is computed from its factors where that takes less than this share of the dense layer's multiply-adds."""


def reconstruct(Xf: Tensor, Wf: Tensor, geometry: Geometry) -> Tensor:
    """The dense matrix [Q, R] of factors [m, r] and [r, n], differentiable in both."""
    Q, R = geometry.Q, geometry.R
    return (Xf @ Wf).reshape(-1)[: Q * R].reshape(R, Q).t()


def initial_factors(geometry: Geometry, std: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random factors whose reconstructed weight has standard deviation `std`.

    Wf takes random signs of magnitude one (with r ranks, each a share), so that every stored x is used at full scale.
    """
    m, n, r = geometry.m, geometry.n, geometry.r
    Wf = torch.randn(r, n, generator=generator)
    Wf = Wf / Wf.square().mean().sqrt()
    Xf = torch.randn(m, r, generator=generator) * (std / math.sqrt(r))
    return Xf, Wf


class DeepThinWeight(nn.Module):
    """Parametrization of a weight [R, Q] (PyTorch keeps outputs first) by DeepThin factors.

    A convolution's weight [R, ...] is taken as the matrix of all the taps of each output channel. With
    `torch.nn.utils.parametrize` the module keeps using `weight` as if it were an ordinary matrix.
    """

    def __init__(self, geometry: Geometry, shape: Sequence[int], *, keep: bool, seed: int = 0) -> None:
        """`keep`: start from the best factors of the weight at hand; otherwise from random ones of the same scale."""
        super().__init__()
        self.geometry = geometry
        self.shape = tuple(shape)
        self.keep = keep
        self.seed = seed

    def forward(self, Xf: Tensor, Wf: Tensor) -> Tensor:
        """The weight [R, ...]."""
        return reconstruct(Xf, Wf, self.geometry).t().reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of a weight [R, ...]."""
        if self.keep:
            matrix = weight.detach().cpu().double().numpy().reshape(self.geometry.R, self.geometry.Q)
            factors = factorise(matrix.T, self.geometry)
            return (
                torch.tensor(factors.Xf, dtype=weight.dtype, device=weight.device),
                torch.tensor(factors.Wf, dtype=weight.dtype, device=weight.device),
            )
        generator = torch.Generator().manual_seed(self.seed)
        Xf, Wf = initial_factors(self.geometry, float(weight.detach().std()), generator)
        return Xf.to(weight.device), Wf.to(weight.device)


class _Product(torch.autograd.Function):
    """`activation(x · W + bias)` of factors, on the CPU in float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, Xf: Tensor, Wf: Tensor, bias: Tensor | None, geometry: Geometry, activation: str
    ) -> Tensor:
        x, Xf, Wf = x.contiguous(), Xf.contiguous(), Wf.contiguous()
        offset = None if bias is None else bias.contiguous()
        y = x.new_empty(*x.shape[:-1], geometry.R)
        training.forward(
            geometry,
            Xf.data_ptr(),
            Wf.data_ptr(),
            None if offset is None else offset.data_ptr(),
            x.data_ptr(),
            x.numel() // geometry.Q,
            y.data_ptr(),
            activation=activation,
            threads=torch.get_num_threads(),
        )
        ctx.save_for_backward(x, Xf, Wf, *([y] if activation else []))
        ctx.geometry, ctx.activation = geometry, activation
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, Xf, Wf, *outputs = ctx.saved_tensors
        gradient = gradient.contiguous()
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dXf, dWf = torch.empty_like(Xf), torch.empty_like(Wf)
        bias = x.new_empty(ctx.geometry.R) if ctx.needs_input_grad[3] else None
        training.backward(
            ctx.geometry,
            Xf.data_ptr(),
            Wf.data_ptr(),
            x.data_ptr(),
            outputs[0].data_ptr() if outputs else None,
            gradient.data_ptr(),
            x.numel() // ctx.geometry.Q,
            training.Gradients(
                dXf.data_ptr(),
                dWf.data_ptr(),
                None if dx is None else dx.data_ptr(),
                None if bias is None else bias.data_ptr(),
            ),
            activation=ctx.activation,
            threads=torch.get_num_threads(),
        )
        return dx, dXf, dWf, bias, None, None


def deepthin_linear(
    x: Tensor, Xf: Tensor, Wf: Tensor, bias: Tensor | None, geometry: Geometry, activation: str = ""
) -> Tensor:
    """A fully connected layer with its activation from DeepThin factors, differentiable once in every tensor.

    On the CPU in float32 it is computed from the factors, unless `worthwhile` denies it; anything else, or a package
    without the compiled library, takes the rebuilt weight through PyTorch (elsewhere a missing library is an error).

    Args:
        x: [..., Q]
        Xf: [m, r]
        Wf: [r, n]
        bias: [R] or None.
        geometry: of the factors.
        activation: one of `ops.training.ACTIVATIONS` that `models.families.base.activate` knows.

    Returns:
        [..., R]
    """
    if _from_factors(geometry, x, Xf, Wf, bias):
        return cast(Tensor, _Product.apply(x, Xf, Wf, bias, geometry, activation))  # type: ignore[no-untyped-call]
    return activate(nn.functional.linear(x, reconstruct(Xf, Wf, geometry).t(), bias), activation)


def worthwhile(geometry: Geometry) -> bool:
    """Whether a forward and a backward pass from the factors cost clearly less than the dense ones, by `WORTH`."""
    return training.work(geometry) < WORTH * 3 * geometry.Q * geometry.R


def _from_factors(geometry: Geometry, *tensors: Tensor | None) -> bool:
    plain = all(t is None or (t.device.type == "cpu" and t.dtype == torch.float32) for t in tensors)
    return plain and worthwhile(geometry) and training.available()


def _factors(module: nn.Module, leaf: str) -> tuple[Tensor, Tensor, Geometry] | None:
    """Xf, Wf and the geometry of `module.leaf` where `DeepThinWeight` alone parametrizes it."""
    if not parametrize.is_parametrized(module, leaf):
        return None
    entry = cast(parametrize.ParametrizationList, module.parametrizations[leaf])  # type: ignore[index]
    weight = entry[0]
    if len(entry) > 1 or not isinstance(weight, DeepThinWeight):
        return None
    return cast(Tensor, entry.original0), cast(Tensor, entry.original1), weight.geometry


class DeepThinLinear(FusedLinear):
    """An `nn.Linear` that computes with the factors of its `weight` while `DeepThinWeight` alone parametrizes that."""

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """The outputs after an activation."""
        factors = _factors(self, "weight")
        if factors is None:
            return activate(nn.functional.linear(x, self.weight, self.bias), activation)
        Xf, Wf, geometry = factors
        return deepthin_linear(x, Xf, Wf, self.bias, geometry, activation)


class DeepThinGru(Gru):
    """A `Gru` that computes with the factors of its weights, each while `DeepThinWeight` alone parametrizes it."""

    def project(self, x: Tensor) -> Tensor:
        """[time, batch, inputs] to what it adds to the gates, [time, batch, 3 * hidden]."""
        factors = _factors(self, "weight_ih")
        if factors is None:
            return super().project(x)
        Xf, Wf, geometry = factors
        return deepthin_linear(x, Xf, Wf, self.bias_ih, geometry)

    def recur(self, projected: Tensor) -> Tensor:
        """[time, batch, 3 * hidden] to the states, [time, batch, hidden]."""
        factors = _factors(self, "weight_hh")
        if factors is None or not _from_factors(factors[2], projected, *factors[:2], self.bias_hh):
            return super().recur(projected)
        states: Tensor = DeepThinRecurrence.apply(projected, *factors, self.bias_hh)  # type: ignore[no-untyped-call]
        return states


def parametrize_by_factors(module: nn.Module, leaf: str, weight: DeepThinWeight) -> None:
    """Make `module.leaf` the product of trainable factors; an `nn.Linear` or a `Gru` then computes with them."""
    # Nothing but the forward pass differs, as with parametrize's own classes.
    if type(module) is nn.Linear and leaf == "weight":
        module.__class__ = DeepThinLinear
    elif type(module) is Gru:
        module.__class__ = DeepThinGru
    parametrize.register_parametrization(module, leaf, weight)
