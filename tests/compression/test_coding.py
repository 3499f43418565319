"""Streams of named arrays."""

from __future__ import annotations

import contextlib
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from models.compression.base import Array, CompressionError, StreamError
from models.compression.coding import decode_arrays, encode_arrays

DTYPES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f4")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12))
)
SAMPLE = {
    "weight": np.random.default_rng(0).normal(0, 0.1, (8, 5)).astype(np.float32),
    "symbols": np.random.default_rng(1).binomial(15, 0.4, 60).astype(np.uint8),
    "starts": np.arange(0, 900, 30, dtype=np.int32),
}


def checked(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def same(one: Array, other: Array) -> bool:
    native = one.astype(one.dtype.newbyteorder("="))
    return other.dtype == native.dtype and other.shape == one.shape and other.tobytes() == native.tobytes()


@given(st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3))
@settings(max_examples=60, deadline=None)
def test_arrays_come_back_bit_for_bit(given_arrays: dict[str, Array]):
    decoded = decode_arrays(encode_arrays(given_arrays))
    assert list(decoded) == list(given_arrays)
    assert all(same(given_arrays[name], decoded[name]) for name in decoded)


@pytest.mark.parametrize("coder", ["raw", "range", "huffman", "deflate"])
@given(array=ARRAYS)
@settings(max_examples=25, deadline=None)
def test_forced_coders_are_exact_too(coder, array: Array):
    assert same(array, decode_arrays(encode_arrays({"a": array}, coders={"a": coder}))["a"])


def test_special_floats_keep_their_bits():
    bits = np.array([0, 1 << 31, 0x7F800001, 0xFFC12345, 0x7F800000, 1], np.uint32)
    assert decode_arrays(encode_arrays({"a": bits.view(np.float32)}))["a"].view(np.uint32).tolist() == bits.tolist()


def test_slices_and_transposes_are_taken_as_seen():
    array = np.arange(24, dtype=np.int16).reshape(4, 6)
    for view in (array.T, array[::2, ::-1], array[:, 1]):
        assert same(view, decode_arrays(encode_arrays({"a": view}))["a"])


def test_decoded_arrays_can_be_written_to():
    for array in decode_arrays(encode_arrays(SAMPLE)).values():
        array[...] = 0


def size(array: npt.NDArray[np.generic]) -> int:
    return len(encode_arrays({"": array}))


def test_weights_take_the_entropy_of_their_exponents():
    weight = np.random.default_rng(2).normal(0, 0.1, 100_000).astype(np.float32)
    counts = np.bincount(np.frexp(weight)[1] + 200)
    counts = counts[counts > 0]
    exponents = float(counts @ np.log2(counts.sum() / counts)) / 8
    assert size(weight) <= 3 * weight.size + exponents + 300


def test_sorted_inputs_take_the_entropy_of_their_gaps():
    rng = np.random.default_rng(3)
    rows = [np.flatnonzero(rng.random(2048) < 0.1) for _ in range(300)]
    inputs = np.concatenate(rows).astype(np.uint16)
    # A geometric distribution with p = 0.1 has 4.69 bits.
    assert size(inputs) < 4.9 / 8 * inputs.size


@pytest.mark.parametrize("dtype", ["i8", "u4", "i4", "u2"])
def test_small_integers_are_small_in_wide_types(dtype: str):
    values = np.random.default_rng(4).integers(0, 16, 20_000)
    assert size((values + 1000).astype(dtype)) < 20_000 / 2 + 100


def test_random_bytes_grow_by_no_more_than_the_frame():
    for dtype in (np.uint8, np.uint16, np.uint64):
        array = np.random.default_rng(5).integers(0, np.iinfo(dtype).max, 5000, dtype, endpoint=True)
        assert size(array) <= array.nbytes + 30


def test_a_forced_coder_is_used():
    symbols = np.zeros(8000, np.uint8)
    assert len(encode_arrays({"a": symbols})) < 50
    assert len(encode_arrays({"a": symbols}, coders={"a": "huffman"})) > 1000
    assert len(encode_arrays({"a": symbols}, coders={"a": "raw"})) > 8000


@pytest.mark.parametrize(
    ("given_arrays", "coders", "message"),
    [
        ({"a": np.zeros(2, np.complex64)}, {}, "'a' has type complex64"),
        ({"a": np.array(["x"])}, {}, "'a' has type"),
        ({"a": np.array([None])}, {}, "'a' has type object"),
        ({"a": np.zeros(2)}, {"b": "raw"}, "'b'"),
        ({"a": np.zeros(2)}, {"a": "zip"}, "'zip'"),
        ({"a": np.broadcast_to(np.uint8(0), 1 << 31)}, {}, "at most"),
    ],
)
def test_what_cannot_be_stored_is_refused(given_arrays, coders, message: str):
    with pytest.raises(CompressionError, match=message):
        encode_arrays(given_arrays, coders=coders)


def test_a_stream_cut_off_anywhere_is_refused():
    stream = encode_arrays(SAMPLE)
    for end in range(len(stream)):
        with pytest.raises(StreamError):
            decode_arrays(stream[:end])
    with pytest.raises(StreamError):
        decode_arrays(stream + b"\0")


def test_a_changed_byte_anywhere_is_refused():
    stream = encode_arrays(SAMPLE)
    for place in range(len(stream)):
        changed = bytearray(stream)
        changed[place] ^= 1 << place % 8
        with pytest.raises(StreamError):
            decode_arrays(bytes(changed))


@pytest.mark.parametrize("coder", ["raw", "range", "huffman", "deflate"])
def test_a_hostile_stream_with_a_right_checksum_is_decoded_or_refused(coder):
    body = encode_arrays(SAMPLE, coders=dict.fromkeys(SAMPLE, coder))[:-4]
    rng = np.random.default_rng(6)
    refused = 0
    for place in range(4, len(body)):
        for value in {0, 255, int(rng.integers(256))} - {body[place]}:
            changed = bytearray(body)
            changed[place] = value
            try:
                decode_arrays(checked(bytes(changed)), limit=1 << 16)
            except StreamError:
                refused += 1
    assert refused > 50
    for end in range(4, len(body)):
        with pytest.raises(StreamError):
            decode_arrays(checked(body[:end]))


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_bytes_behind_the_magic_are_decoded_or_refused(tail: bytes):
    with contextlib.suppress(StreamError):
        decode_arrays(checked(encode_arrays({})[:4] + tail), limit=1 << 16)


def test_no_more_is_allocated_than_allowed():
    stream = encode_arrays({"a": np.zeros((1000, 1000), np.float32), "b": np.zeros(10, np.float32)})
    assert len(stream) < 100
    assert decode_arrays(stream, limit=4_000_040)["a"].shape == (1000, 1000)
    for limit in (0, 3_999_999, 4_000_039):
        with pytest.raises(StreamError, match="larger than"):
            decode_arrays(stream, limit=limit)


@pytest.mark.parametrize("shape", [(1 << 40,), (0, 1 << 40), (1 << 20, 1 << 20, 1 << 20), (1,) * 33])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]):
    def number(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + number(value >> 7) if value > 0x7F else bytes([value])

    head = encode_arrays({})[:4] + b"\x01" + b"\x01a" + bytes((1, len(shape)))
    body = head + b"".join(map(number, shape)) + b"\0\0"
    with pytest.raises(StreamError, match=r"larger than|corrupted"):
        decode_arrays(checked(body))


def test_two_arrays_of_one_name_are_refused():
    one = encode_arrays({"a": np.zeros(1, np.uint8)})[5:-4]
    with pytest.raises(StreamError, match="two arrays"):
        decode_arrays(checked(encode_arrays({})[:4] + b"\x02" + one + one))
