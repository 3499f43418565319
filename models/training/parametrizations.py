"""The trainable form of a weight compressed by any method.

Where a method stores whole numbers (places, indices, codes), they stay as they are, with one exception: those of int8
and int4 *are* the weight or its factors, so these themselves are trained and rounded at each step, with the gradient
passed through the rounding (Bengio et al., arXiv 1308.3432). Their scales stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.compression.base import Array, Compressed, CompressionError, Matrix
from models.compression.codebook import unpack_rows
from models.compression.deepthin import geometry_of
from models.compression.int4 import packed
from models.compression.registry import method
from models.compression.relative_index import inputs_of
from models.training.compressed_weight import CompressedWeight, as_array
from models.training.deepthin import deepthin_linear, reconstruct
from models.training.gathering import gathered, permuted, placed
from models.training.typed_factors import HalvedDeepThinFactors, RoundedDeepThinFactors
from ops.hashing import hashed_entries, shuffled_positions
from ops.packing import pack_bits, unpack_bits


class DenseWeight(CompressedWeight):
    """`dense`: every entry."""

    trained = ("weight",)

    def matrix(self, *values: Tensor) -> Tensor:
        """The weight itself."""
        return values[0]


class LowRankWeight(CompressedWeight):
    """`low-rank`: both factors."""

    trained = ("A", "B")

    def matrix(self, *values: Tensor) -> Tensor:
        """``A · B``."""
        return values[0] @ values[1]

    def product(self, x: Tensor, *values: Tensor) -> Tensor:
        """``x · A · B``, without the matrix."""
        return (x @ values[0]) @ values[1]


class DeepThinFactors(CompressedWeight):
    """`deepthin`: both factors."""

    trained = ("Xf", "Wf")

    def matrix(self, *values: Tensor) -> Tensor:
        """The re-layout of the product."""
        return reconstruct(values[0], values[1], geometry_of(self.compressed.plan))

    def product(self, x: Tensor, *values: Tensor) -> Tensor:
        """``x · W``, from the factors where that is faster."""
        return deepthin_linear(x, values[0], values[1], None, geometry_of(self.compressed.plan))


class ShuffledFactors(CompressedWeight):
    """`deepthin-shuffled`: both factors."""

    trained = ("Xf", "Wf")
    order: Tensor

    def prepare(self) -> None:
        """The places of the entries in the product."""
        order = shuffled_positions(self.Q, self.R, int(self.compressed.plan.geometry["seed"]))
        self.register_buffer("order", torch.from_numpy(order), persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """The product's values in the order of the permutation."""
        return permuted((values[0] @ values[1]).reshape(-1), self.order).reshape(self.R, self.Q).t()


class HashedWeight(CompressedWeight):
    """`hashed`: the shared values."""

    trained = ("values",)
    index: Tensor
    sign: Tensor

    def prepare(self) -> None:
        """Which value each entry has."""
        geometry = self.compressed.plan.geometry
        index, sign = hashed_entries(self.Q, self.R, int(geometry["K"]), int(geometry["seed"]))
        self.register_buffer("index", torch.from_numpy(index.astype(np.int64, order="C")), persistent=False)
        self.register_buffer("sign", torch.from_numpy(np.array(sign, order="C")), persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """The values where the hash puts them."""
        return gathered(values[0], self.index) * self.sign


class SparseWeight(CompressedWeight):
    """`pruned-csr`: the values of the entries that are left, at their places."""

    trained = ("values",)
    places: Tensor

    def prepare(self) -> None:
        """Where the entries are, counted output by output."""
        counts = np.diff(self.stored("starts"))
        places = np.repeat(np.arange(self.R), counts) * self.Q + self.stored("inputs").astype(np.int64)
        self.register_buffer("places", torch.from_numpy(places), persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """The values at their places, zero elsewhere; only they have a gradient."""
        return placed(values[0], self.places, self.Q * self.R).reshape(self.R, self.Q).t()


class SharedSparseWeight(CompressedWeight):
    """`deep-compression`: the shared values of the entries that are left."""

    trained: tuple[str, ...] = ("codebook",)
    places: Tensor
    index: Tensor

    def prepare(self) -> None:
        """Where the entries are and which value each has; fillers, which are zero, are none."""
        entries, value_bits, gap_bits = (
            int(self.compressed.plan.geometry[key]) for key in ("entries", "value_bits", "gap_bits")
        )
        symbols = unpack_bits(self.stored("symbols"), value_bits, entries)
        counts = np.diff(self.stored("starts")).astype(np.int64)
        inputs = inputs_of(unpack_bits(self.stored("gaps"), gap_bits, entries), counts)
        places = np.repeat(np.arange(self.R), counts) * self.Q + inputs
        kept = symbols != 0
        self.register_buffer("places", torch.from_numpy(places[kept]), persistent=False)
        self.register_buffer("index", torch.from_numpy(symbols[kept].astype(np.int64)), persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """The shared values at their places, zero elsewhere."""
        entries = gathered(values[0], self.index)
        return placed(entries, self.places, self.Q * self.R).reshape(self.R, self.Q).t()


class PickedSparseWeight(SharedSparseWeight):
    """`deep-compression`, whose entries also learn which of the shared values they have.

    Every entry keeps a value of its own, which is rounded to the nearest shared one at each step; the gradient passes
    through the rounding, and that of a shared value is the sum of its members' (Zhu et al., arXiv 1612.01064, with the
    number of values of arXiv 1510.00149).
    """

    trained = ("codebook", "entries")
    proportional = False

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The shared values, and the entries as `weight` has them."""
        matrix = weight if self.inputs_first else weight.reshape(self.R, self.Q).t()
        entries = matrix.t().reshape(-1).index_select(0, self.places.to(weight.device)).float()
        codebook = torch.tensor(self.compressed.arrays["codebook"], dtype=torch.float32, device=weight.device)
        return codebook, entries.clone()

    def picks(self, codebook: Tensor, entries: Tensor) -> Tensor:
        """The index of the shared value, never the zero of the fillers, that is nearest to each entry."""
        levels, order = codebook.detach()[1:].sort()
        return order[torch.bucketize(entries.detach(), (levels[1:] + levels[:-1]) / 2)] + 1

    def matrix(self, *values: Tensor) -> Tensor:
        """The shared values at their places, zero elsewhere."""
        codebook, entries = values
        shared = gathered(codebook, self.picks(codebook, entries)) + (entries - entries.detach())
        return placed(shared, self.places, self.Q * self.R).reshape(self.R, self.Q).t()

    def own(self, entries: Tensor) -> Matrix:
        """The entries' own values at their places [Q, R]."""
        return as_array(placed(entries.detach(), self.places, self.Q * self.R).reshape(self.R, self.Q).t())

    def arrays(self, values: Sequence[Tensor]) -> dict[str, Array]:
        """The codebook and which of its values each entry has."""
        count, bits = (int(self.compressed.plan.geometry[key]) for key in ("entries", "value_bits"))
        symbols = unpack_bits(self.stored("symbols"), bits, count)
        symbols[symbols != 0] = as_array(self.picks(*values)).astype(np.uint8)
        fixed = {name: self.stored(name) for name in ("gaps", "starts")}
        return {"codebook": as_array(values[0]), "symbols": pack_bits(symbols, bits), **fixed}


class SharedFactors(CompressedWeight):
    """`low-rank-codebook`: the shared values of both factors, and the scales between them."""

    trained = ("A.codebook", "scale", "B.codebook")
    first: Tensor
    second: Tensor

    def prepare(self) -> None:
        """Which value each entry of the factors has."""
        K, bits = (int(self.compressed.plan.geometry[key]) for key in ("K", "bits"))
        for key, leaf, rows, columns in (("A", "first", self.Q, K), ("B", "second", K, self.R)):
            indices = unpack_rows(self.stored(f"{key}.indices"), rows, columns, bits)
            self.register_buffer(leaf, torch.from_numpy(indices.astype(np.int64, order="C")), persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """``A · diag(scale) · B``."""
        return (gathered(values[0], self.first) * values[1]) @ gathered(values[2], self.second)

    def product(self, x: Tensor, *values: Tensor) -> Tensor:
        """``x · A · diag(scale) · B``, without the matrix."""
        return ((x @ gathered(values[0], self.first)) * values[1]) @ gathered(values[2], self.second)


class SharedDeepThinFactors(CompressedWeight):
    """`deepthin-codebook`: the shared values of the long factor, and the short factor."""

    trained = ("codebook", "Wf")
    index: Tensor

    def prepare(self) -> None:
        """Which value each entry of the long factor has."""
        geometry, bits = geometry_of(self.compressed.plan), int(self.compressed.plan.geometry["bits"])
        indices = unpack_bits(self.stored("indices"), bits, geometry.m * geometry.r)
        index = torch.from_numpy(indices.astype(np.int64).reshape(geometry.m, geometry.r))
        self.register_buffer("index", index, persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """The re-layout of the product."""
        return reconstruct(gathered(values[0], self.index), values[1], geometry_of(self.compressed.plan))

    def product(self, x: Tensor, *values: Tensor) -> Tensor:
        """``x · W``, from the factors where that is faster."""
        Xf = gathered(values[0], self.index)
        return deepthin_linear(x, Xf, values[1], None, geometry_of(self.compressed.plan))


class SeparableWeight(CompressedWeight):
    """`separable-conv`: both filters."""

    trained = ("vertical", "horizontal")

    def matrix(self, *values: Tensor) -> Tensor:
        """The matrix of the kernel that the two convolutions amount to."""
        vertical, horizontal = values
        K, kw = horizontal.shape[1], horizontal.shape[3]
        product = vertical.reshape(K, -1).t() @ horizontal.transpose(0, 1).reshape(K, -1)
        return product.reshape(-1, self.R, kw).transpose(1, 2).reshape(self.Q, self.R)


class NarrowWeight(CompressedWeight):
    """`same-size`: the part of the weight that is kept."""

    trained = ("weight",)
    places: Tensor

    def prepare(self) -> None:
        """Where that part is, counted row by row."""
        inputs, outputs = (self.stored(key).astype(np.int64) for key in ("inputs", "outputs"))
        places = (inputs[:, None] * self.R + outputs).reshape(-1)
        self.register_buffer("places", torch.from_numpy(places), persistent=False)

    def matrix(self, *values: Tensor) -> Tensor:
        """The part in its place, zero elsewhere."""
        return placed(values[0].reshape(-1), self.places, self.Q * self.R).reshape(self.Q, self.R)


class RoundedWeight(CompressedWeight):
    """Base of `int8`, `int4` and the like: the weight itself, rounded at each step."""

    trained = ("weight",)
    proportional = False
    lowest: int
    highest: int
    scale: Tensor

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The rounded weight that was given."""
        given = method(self.compressed.plan.method).decompress(self.compressed)
        return (torch.tensor(given, dtype=torch.float32, device=weight.device),)

    def steps(self) -> Tensor:
        """What a code of one stands for, of a shape that goes with [Q, R]."""
        raise NotImplementedError

    def codes(self, weight: Tensor) -> Tensor:
        """The whole number nearest to each entry."""
        return torch.round(weight / self.steps()).clamp(self.lowest, self.highest)

    def matrix(self, *values: Tensor) -> Tensor:
        """The rounded weight, whose gradient is that of the weight."""
        return values[0] + (self.codes(values[0]) * self.steps() - values[0]).detach()


class Int8Weight(RoundedWeight):
    """`int8`. That ONNX Runtime rounds the inputs too is not part of the training."""

    lowest, highest = -127, 127
    zero: Tensor

    def steps(self) -> Tensor:
        """A scale per output."""
        return self.scale

    def arrays(self, values: Sequence[Tensor]) -> dict[str, Array]:
        """The codes around their zero."""
        codes = as_array(self.codes(values[0]) + self.zero).astype(np.uint8)
        return {name: codes if name == "weight" else self.stored(name) for name in self.compressed.arrays}


class Int4Weight(RoundedWeight):
    """`int4`. That ONNX Runtime rounds the inputs too is not part of the training."""

    lowest, highest = -8, 7

    def steps(self) -> Tensor:
        """A scale per block of inputs and output, for each input."""
        block = int(self.compressed.plan.geometry["block"])
        return self.scale.reshape(self.R, -1).repeat_interleave(block, dim=1)[:, : self.Q].t()

    def arrays(self, values: Sequence[Tensor]) -> dict[str, Array]:
        """The codes above their lowest, two to a byte; behind the last input they stand for zero."""
        bits, stored = int(self.compressed.plan.geometry["bits"]), self.compressed.arrays
        codes = np.full((self.R, stored["weight"][0].size * 8 // bits), -self.lowest, np.uint8)
        codes[:, : self.Q] = as_array(self.codes(values[0]) - self.lowest).T
        weight = packed(codes, bits).reshape(stored["weight"].shape)
        return {name: weight if name == "weight" else self.stored(name) for name in stored}


class Int4CompactWeight(Int4Weight):
    """`int4-compact`, whose scales are whole numbers of steps."""

    step: Tensor

    def steps(self) -> Tensor:
        """A scale per block of inputs and output, for each input."""
        block = int(self.compressed.plan.geometry["block"])
        return (self.scale.float() * self.step).repeat_interleave(block, dim=1)[:, : self.Q].t()


class Int3CompactWeight(Int4CompactWeight):
    """`int3-compact`."""

    lowest, highest = -4, 3


class Int2CompactWeight(Int4CompactWeight):
    """`int2-compact`."""

    lowest, highest = -2, 1


PARAMETRIZATIONS: Mapping[str, type[CompressedWeight]] = {
    "dense": DenseWeight,
    "low-rank": LowRankWeight,
    "deepthin": DeepThinFactors,
    "deepthin-shuffled": ShuffledFactors,
    "hashed": HashedWeight,
    "pruned-csr": SparseWeight,
    "deep-compression": SharedSparseWeight,
    "low-rank-codebook": SharedFactors,
    "deepthin-codebook": SharedDeepThinFactors,
    "deepthin-float16": HalvedDeepThinFactors,
    "deepthin-int8": RoundedDeepThinFactors,
    "separable-conv": SeparableWeight,
    "same-size": NarrowWeight,
    "int8": Int8Weight,
    "int4": Int4Weight,
    "int4-compact": Int4CompactWeight,
    "int3-compact": Int3CompactWeight,
    "int2-compact": Int2CompactWeight,
}
"""By the name of the method."""


def parametrization(
    compressed: Compressed, shape: Sequence[int], *, inputs_first: bool, swap_gates: bool = False, pick: bool = False
) -> CompressedWeight:
    """The parametrization of a compressed weight by its method; see `CompressedWeight`.

    With `pick`, entries of `deep-compression` learn which shared value they have; see `PickedSparseWeight`.

    Raises:
        CompressionError: the method's weights cannot be trained; the message names those whose weights can.
    """
    name = compressed.plan.method
    if name not in PARAMETRIZATIONS:
        raise CompressionError(f"weights of method {name!r} cannot be trained: use {', '.join(PARAMETRIZATIONS)}")
    kind = PickedSparseWeight if pick and name == "deep-compression" else PARAMETRIZATIONS[name]
    return kind(compressed, shape, inputs_first=inputs_first, swap_gates=swap_gates)
