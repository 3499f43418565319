"""The trainable forms of DeepThin factors in fewer bits: rounded at each step, gradients passed through it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.compression.base import Array
from models.compression.deepthin import geometry_of
from models.compression.deepthin_typed import LARGEST, DeepThinFloat16, halved
from models.compression.registry import method
from models.training.compressed_weight import CompressedWeight, as_array
from models.training.deepthin import deepthin_linear, reconstruct
from ops.quantised import SCALED_ROWS


class HalvedDeepThinFactors(CompressedWeight):
    """`deepthin-float16`: both factors, rounded at each step."""

    trained = ("Wf", "Xf")

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The rounded factors that were given."""
        Xf, Wf = self.form.factors(self.compressed.arrays)
        return torch.tensor(Wf, device=weight.device), torch.tensor(Xf, device=weight.device)

    @property
    def form(self) -> DeepThinFloat16:
        """The method."""
        found = method(self.compressed.plan.method)
        assert isinstance(found, DeepThinFloat16)
        return found

    def long(self, Xf: Tensor) -> Tensor:
        """The long factor as stored."""
        return _halved(Xf)

    def rounded(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        """The factors as stored, ``Xf`` first, whose gradients are those of the trained ones."""
        Wf, Xf = values
        return Xf + (self.long(Xf) - Xf).detach(), Wf + (_halved(Wf) - Wf).detach()

    def matrix(self, *values: Tensor) -> Tensor:
        """The re-layout of the product."""
        return reconstruct(*self.rounded(*values), geometry_of(self.compressed.plan))

    def product(self, x: Tensor, *values: Tensor) -> Tensor:
        """``x · W``, from the factors where that is faster."""
        return deepthin_linear(x, *self.rounded(*values), None, geometry_of(self.compressed.plan))

    def arrays(self, values: Sequence[Tensor]) -> dict[str, Array]:
        """Both factors as float16."""
        Wf, Xf = map(as_array, values)
        return {"Xf": halved(Xf), "Wf": halved(Wf)}


class RoundedDeepThinFactors(HalvedDeepThinFactors):
    """`deepthin-int8`: the same with the long factor in 8 bits, whose scales stay."""

    Xf_scales: Tensor

    def codes(self, Xf: Tensor) -> Tensor:
        """The whole number nearest to each entry, in its scales."""
        steps = self._steps(Xf)
        return torch.round(Xf / torch.where(steps > 0, steps, 1)).clamp(-127, 127)

    def long(self, Xf: Tensor) -> Tensor:
        """The codes in their scales."""
        return _halved(self.codes(Xf) * self._steps(Xf))

    def arrays(self, values: Sequence[Tensor]) -> dict[str, Array]:
        """The codes, the short factor and the scales."""
        Wf, Xf = values
        codes = as_array(self.codes(Xf)).astype(np.int8)
        return {"Xf": codes, "Wf": halved(as_array(Wf)), "Xf_scales": self.stored("Xf_scales")}

    def _steps(self, Xf: Tensor) -> Tensor:
        return self.Xf_scales.repeat_interleave(SCALED_ROWS, dim=0)[: len(Xf)]


def _halved(values: Tensor) -> Tensor:
    return values.clamp(-LARGEST, LARGEST).half().to(values.dtype)
