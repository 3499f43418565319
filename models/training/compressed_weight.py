"""Compressed weights inside PyTorch networks: what a method stores is trained, in the form in which it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.compression.base import Array, Compressed, Matrix, finish
from models.compression.registry import method
from models.families.base import FusedLinear, activate


class CompressedWeight(nn.Module):
    """Base of the parametrizations. A subclass says which of a method's arrays are trained and what they stand for.

    The module that one is registered on (`torch.nn.utils.parametrize`) goes on using its weight as an ordinary tensor,
    computed from the stored values at each access.

    Attributes:
        trained: names of the arrays that are trained; all others stay as they are.
        proportional: the matrix is proportional to the first of them.
        compressed: the weight as it was given.
        fixed: names of the arrays that stay, kept as buffers.
    """

    trained: tuple[str, ...]
    proportional = True

    def __init__(
        self, compressed: Compressed, shape: Sequence[int], *, inputs_first: bool, swap_gates: bool = False
    ) -> None:
        """A compressed weight for a tensor of `shape`: [Q, R] if `inputs_first`, otherwise [R, ...].

        `swap_gates`: the tensor has the outputs of a GRU's gates in the order r, z, n, and the matrix, as in ONNX, in
        the order z, r, n.
        """
        super().__init__()
        self.compressed = compressed
        self.shape = tuple(shape)
        self.inputs_first = inputs_first
        self.swap_gates = swap_gates
        self.fixed = tuple(name for name in compressed.arrays if name not in self.trained)
        for name in self.fixed:
            self.register_buffer(_leaf(name), torch.from_numpy(np.array(compressed.arrays[name])))
        self.prepare()

    @property
    def Q(self) -> int:
        """Inputs."""
        return self.compressed.plan.Q

    @property
    def R(self) -> int:
        """Outputs."""
        return self.compressed.plan.R

    def prepare(self) -> None:
        """Work out what `matrix` needs of the fixed arrays; called again when they were loaded."""

    def matrix(self, *values: Tensor) -> Tensor:
        """The matrix [Q, R] that the trained values stand for."""
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The values to start from, whatever `weight` is: those of the compressed weight."""
        return tuple(
            torch.tensor(self.compressed.arrays[name], dtype=torch.float32, device=weight.device)
            for name in self.trained
        )

    def forward(self, *values: Tensor) -> Tensor:
        """The weight."""
        matrix = self.matrix(*values)
        tensor = (matrix if self.inputs_first else matrix.t()).reshape(self.shape)
        return swapped(tensor) if self.swap_gates else tensor

    def arrays(self, values: Sequence[Tensor]) -> dict[str, Array]:
        """What the method stores for these values."""
        new = dict(zip(self.trained, (as_array(value) for value in values), strict=True))
        stored = {name: new.get(name) for name in self.compressed.arrays}
        return {name: self.stored(name) if array is None else array for name, array in stored.items()}

    def finish(self, values: Sequence[Tensor], weight: Matrix) -> Compressed:
        """The weight with these values; its error is that from `weight` [Q, R]."""
        plan = self.compressed.plan
        return finish(method(plan.method), weight, plan, self.arrays(values), None)

    def stored(self, name: str) -> npt.NDArray[Any]:
        """A fixed array."""
        return np.array(getattr(self, _leaf(name)).detach().cpu().numpy())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # How much a sparse weight stores may depend on its values, so a buffer takes the shape of what it loads.
        for leaf in map(_leaf, self.fixed):
            if prefix + leaf in state_dict:
                setattr(self, leaf, torch.empty_like(state_dict[prefix + leaf]))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.prepare()


class FactoredLinear(FusedLinear):
    """An `nn.Linear` whose weight's parametrization has a `product`, which it uses instead of the weight."""

    def activated(self, x: Tensor, activation: str) -> Tensor:
        """The outputs after an activation."""
        values = cast(parametrize.ParametrizationList, self.parametrizations["weight"])  # type: ignore[index]
        product: Tensor = values[0].product(x, *originals(values))  # type: ignore[operator]
        return activate(product if self.bias is None else product + self.bias, activation)


def install(module: nn.Module, leaf: str, weight: CompressedWeight) -> None:
    """Make `module.leaf` a compressed weight."""
    if type(module) is nn.Linear and leaf == "weight" and hasattr(weight, "product"):
        module.__class__ = FactoredLinear  # nothing but the forward pass differs, as with parametrize's own classes
    parametrize.register_parametrization(module, leaf, weight)


def installed(module: nn.Module, leaf: str) -> tuple[CompressedWeight, list[nn.Parameter]] | None:
    """The compressed weight of a module and the values it works on; None where there is none."""
    if not parametrize.is_parametrized(module, leaf):
        return None
    values = cast(parametrize.ParametrizationList, module.parametrizations[leaf])  # type: ignore[index]
    weight = values[0]
    return (weight, originals(values)) if isinstance(weight, CompressedWeight) else None


def originals(values: parametrize.ParametrizationList) -> list[nn.Parameter]:
    """The tensors that a parametrization works on, in the order in which it takes them."""
    return [cast(nn.Parameter, getattr(values, f"original{number}")) for number in range(values.ntensors)]


def swapped(tensor: Tensor) -> Tensor:
    """A GRU's weight with the outputs of its first two gates, of three, exchanged."""
    first, second, third = tensor.chunk(3)
    return torch.cat([second, first, third])


def _leaf(name: str) -> str:
    """The name of the buffer of an array."""
    return name.replace(".", "_")


def as_array(values: Tensor) -> npt.NDArray[np.float32]:
    """A tensor's values."""
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)
