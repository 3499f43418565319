"""Whole numbers of a few bits each, packed into bytes from the least significant bit up."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed_bytes(bits: int, count: int) -> int:
    """The bytes that ``count`` values of ``bits`` bits take."""
    return (count * bits + 7) // 8


def pack_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Pack a row of whole numbers: value i takes bits ``i * bits`` and up, counted from each byte's least significant.

    Args:
        values: [count], each in ``0 .. 2 ** bits - 1``.
        bits: 1 to 8.

    Returns:
        uint8 [ceil(count * bits / 8)]; the bits behind the last value are 0.

    Raises:
        ValueError: A value does not fit, or ``bits`` is out of range.
    """
    _check(bits)
    if values.size and (values.min() < 0 or values.max() >= 1 << bits):
        raise ValueError(f"{bits} bits hold 0 to {(1 << bits) - 1}, not {values.min()} to {values.max()}")
    each = np.unpackbits(values.astype(np.uint8).reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(each, bitorder="little")


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The ``count`` values, uint8 [count], that `pack_bits` packed at ``bits`` bits each.

    Raises:
        ValueError: ``packed`` holds fewer values, or ``bits`` is out of range.
    """
    _check(bits)
    if count < 0 or packed.size < packed_bytes(bits, count):
        raise ValueError(f"{packed.size} bytes do not hold {count} values of {bits} bits")
    each = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(each, axis=1, bitorder="little").reshape(count)


def _check(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"bits must be 1 to 8, not {bits}")
