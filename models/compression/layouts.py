"""How the values of an array become planes of symbols of one or two bytes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, StreamError
from ops.coders import Symbols


class Source(Protocol):
    """Where a layout reads from; every method raises `StreamError` when the stream is broken."""

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        ...

    def plane(self, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        """The next plane, of `count` symbols."""
        ...


class Layout(Protocol):
    """One way to lay out arrays of one axis."""

    def suits(self, flat: Array) -> bool:
        """Whether `split` can take the array."""
        ...

    def split(self, flat: Array) -> tuple[bytes, Sequence[Symbols]]:
        """The layout's own numbers, and the planes."""
        ...

    def join(self, source: Source, dtype: np.dtype[Any], count: int) -> Array:
        """What was split."""
        ...


class BytePlanes:
    """All the first bytes, all the second bytes, ...; a float's sign is moved behind its mantissa first.

    That leaves the exponent alone in its byte, which is the only part of a trained weight that compresses.
    """

    def suits(self, flat: Array) -> bool:
        """Every array."""
        return True

    def split(self, flat: Array) -> tuple[bytes, Sequence[Symbols]]:
        """One plane for each byte of an item."""
        bits = _unsigned(flat)
        if flat.dtype.kind == "f":
            bits = (bits << 1) | (bits >> (8 * bits.itemsize - 1))
        planes = bits.view(np.uint8).reshape(-1, bits.itemsize).T
        return b"", [np.ascontiguousarray(plane) for plane in planes]

    def join(self, source: Source, dtype: np.dtype[Any], count: int) -> Array:
        """The items of the planes' bytes."""
        planes = np.empty((count, dtype.itemsize), np.uint8)
        for index in range(dtype.itemsize):
            planes[:, index] = source.plane(np.uint8, count)
        bits = planes.reshape(-1).view(f"<u{dtype.itemsize}")
        if dtype.kind == "f":
            bits = (bits >> 1) | (bits << (8 * bits.itemsize - 1))
        return _typed(bits, dtype)


class Offset:
    """Integers less their minimum, which must fit in 16 bits."""

    def suits(self, flat: Array) -> bool:
        """Integers of more than one byte with less than 2^16 between the smallest and the largest."""
        return flat.dtype.kind in "iu" and flat.dtype.itemsize > 1 and _span(flat) < 1 << 16

    def split(self, flat: Array) -> tuple[bytes, Sequence[Symbols]]:
        """One plane; the minimum."""
        base = flat.min() if flat.size else flat.dtype.type(0)
        symbols = _unsigned(flat) - _unsigned(base.reshape(1))
        width = 1 if _span(flat) < 1 << 8 else 2
        return bytes((width,)) + base.tobytes(), [symbols.astype(f"<u{width}")]

    def join(self, source: Source, dtype: np.dtype[Any], count: int) -> Array:
        """The sums."""
        (width,) = source.take(1)
        if width not in (1, 2) or width > dtype.itemsize or dtype.kind not in "iu":
            raise StreamError("the layout of an array is corrupted")
        bits = f"<u{dtype.itemsize}"
        base = np.frombuffer(source.take(dtype.itemsize), bits)
        return _typed(source.plane(f"<u{width}", count).astype(bits) + base, dtype)


class Steps:
    """The first integer, and the steps from each to the next: sorted numbers, such as the inputs of a sparse row."""

    def suits(self, flat: Array) -> bool:
        """Integers whose steps have less than 2^16 between the smallest and the largest."""
        return flat.dtype.kind in "iu" and flat.size > 1 and _span(_steps(flat)) < 1 << 16

    def split(self, flat: Array) -> tuple[bytes, Sequence[Symbols]]:
        """The plane of the steps; the first integer."""
        steps = _steps(flat)
        if steps.itemsize == 1:
            return flat[:1].tobytes(), [_unsigned(steps)]
        head, planes = Offset().split(steps)
        return flat[:1].tobytes() + head, planes

    def join(self, source: Source, dtype: np.dtype[Any], count: int) -> Array:
        """The sums of the steps."""
        if count < 2 or dtype.kind not in "iu":
            raise StreamError("the layout of an array is corrupted")
        bits = np.dtype(f"<u{dtype.itemsize}")
        first = np.frombuffer(source.take(dtype.itemsize), bits)
        layout = BytePlanes() if dtype.itemsize == 1 else Offset()
        steps = layout.join(source, bits, count - 1)
        return _typed(np.cumsum(np.concatenate((first, steps)), dtype=bits), dtype)


LAYOUTS: Final[Mapping[int, Layout]] = {0: BytePlanes(), 1: Offset(), 2: Steps()}
"""By the number that stands for them in a stream."""


def suitable(flat: Array) -> list[int]:
    """Numbers of the layouts that can take an array."""
    return [code for code, layout in LAYOUTS.items() if layout.suits(flat)]


def _unsigned(flat: Array) -> npt.NDArray[Any]:
    return flat.view(f"<u{flat.dtype.itemsize}")


def _typed(bits: npt.NDArray[Any], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "b" and bits.size and bits.max() > 1:
        raise StreamError("a boolean in the stream is neither 0 nor 1")
    return bits.view(dtype).astype(dtype.newbyteorder("="), copy=False)


def _span(flat: Array) -> int:
    return int(flat.max()) - int(flat.min()) if flat.size else 0


def _steps(flat: Array) -> Array:
    """Differences modulo the type's range, taken as signed."""
    bits = _unsigned(flat)
    steps: Array = (bits[1:] - bits[:-1]).view(f"<i{flat.dtype.itemsize}")
    return steps
