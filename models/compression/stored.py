"""What the methods share about stored arrays: sizes that cannot be had, and arrays that came back from a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.compression.base import Array, GraphBuilder, Plan, SizeError, StreamError

Expected = Mapping[str, tuple[Any, Sequence[int]]]
"""Types, as NumPy takes them, and shapes by name."""


def budget(name: str, Q: int, R: int, relative_size: float, reachable: tuple[float, float]) -> int:
    """The bytes that `relative_size` allows a Q x R weight.

    Raises:
        SizeError: that is less than the smallest that the method `name` reaches.
    """
    # Wishes are decimal fractions such as 0.02: a hair of tolerance keeps exact ones reachable.
    allowed = int(min(relative_size, 1e6) * 4 * Q * R * (1 + 1e-12)) if relative_size > 0 else 0
    smallest, largest = reachable
    if allowed < round(smallest * 4 * Q * R):
        raise SizeError(
            f"{name} cannot store a {Q} x {R} weight at relative size {relative_size:.6g}: "
            f"it reaches {smallest:.6g} to {largest:.6g}"
        )
    return allowed


class OneSize:
    """What methods have in common whose bytes follow from the shape of the weight alone."""

    name: str

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """The one size there is."""
        size = self._bytes(Q, R) / (4 * Q * R)
        return size, size

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The one plan there is.

        Raises:
            SizeError: less was wished for.
        """
        budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        return Plan(self.name, Q, R, self._bytes(Q, R), self._geometry())

    def _geometry(self) -> dict[str, int]:
        """The method's own numbers, for its plans."""
        return {}

    def _bytes(self, Q: int, R: int) -> int:
        raise NotImplementedError


def checked(arrays: Mapping[str, Array], expected: Expected) -> dict[str, Array]:
    """The `arrays` in the order of `expected`.

    Raises:
        StreamError: their names, types or shapes are others.
    """
    if set(arrays) != set(expected):
        raise StreamError(f"the stream holds {', '.join(sorted(arrays))} instead of {', '.join(sorted(expected))}")
    for name, (dtype, shape) in expected.items():
        found = arrays[name]
        if found.dtype != np.dtype(dtype) or found.shape != tuple(shape):
            wanted = f"{np.dtype(dtype)} {list(shape)}"
            raise StreamError(f"{name} of the stream is {found.dtype} {list(found.shape)} instead of {wanted}")
    return {name: arrays[name] for name in expected}


def add_bias(builder: GraphBuilder, y: str, bias: str | None) -> str:
    """`y` with the bias added, for operators that take none."""
    return y if bias is None else builder.node("Add", [y, bias])


def op_inputs(inputs: Sequence[str], bias: str | None) -> list[str]:
    """The inputs of one of the library's operators, whose last, optional one is the bias."""
    return [*inputs, *([] if bias is None else [bias])]


def shape_attributes(Q: int, R: int) -> dict[str, Any]:
    """The attributes that every operator of the library has."""
    return {"domain": "deepthin", "Q": Q, "R": R}
