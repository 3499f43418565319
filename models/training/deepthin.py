"""DeepThin weights inside PyTorch networks, trained by back-propagation.

Source: Sotoudeh and Baghsorkhi, arXiv 1802.06944. `ops.layout` has the geometry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.compression.deepthin import factorise
from ops.layout import Geometry


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
