"""Packing numbers of a few bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.packing import pack_bits, packed_bytes, unpack_bits


@given(st.integers(1, 8), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_back(bits: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << bits, count)
    packed = pack_bits(values, bits)
    assert packed.dtype == np.uint8
    assert packed.size == packed_bytes(bits, count) == -(-count * bits // 8)
    assert np.array_equal(unpack_bits(packed, bits, count), values)


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=40))
def test_a_stream_is_one_number_with_its_first_value_lowest(bits: int, values: list[int]) -> None:
    values = [value & ((1 << bits) - 1) for value in values]
    number = sum(value << (bits * i) for i, value in enumerate(values))
    packed = pack_bits(np.array(values, int), bits)
    assert int.from_bytes(packed.tobytes(), "little") == number


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="1 to 8"):
        pack_bits(np.zeros(3, np.uint8), bits)
    with pytest.raises(ValueError, match="1 to 8"):
        unpack_bits(np.zeros(9, np.uint8), bits, 3)


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 7"):
        pack_bits(np.array([1, 8]), 3)
    with pytest.raises(ValueError, match="0 to 7"):
        pack_bits(np.array([1, -1]), 3)


def test_too_few_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes do not hold 9 values"):
        unpack_bits(np.zeros(3, np.uint8), 3, 9)
