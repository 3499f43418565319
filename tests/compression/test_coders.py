"""The range coder and the Huffman codes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from bitarray import bitarray
from bitarray.util import canonical_decode, canonical_huffman
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ops import coders
from ops.coders import (
    CoderError,
    Symbols,
    huffman_decode,
    huffman_encode,
    huffman_size,
    range_decode,
    range_encode,
)

MILLION = 1_000_000

SYMBOLS = st.sampled_from((np.uint8, np.uint16)).flatmap(
    lambda dtype: st.sampled_from((1, 3, 200, np.iinfo(dtype).max)).flatmap(
        lambda largest: arrays(dtype, st.integers(0, 300), elements=st.integers(0, largest))
    )
)


def coded(symbols: Symbols) -> bytes:
    stream = range_encode(symbols)
    assert stream is not None
    return stream


def entropy(symbols: Symbols) -> float:
    """Bytes of the symbols at their empirical entropy."""
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    return float(counts @ np.log2(counts.sum() / counts)) / 8


@given(SYMBOLS)
def test_range_coding_gives_every_symbol_back(symbols: Symbols):
    stream = coded(symbols)
    assert np.array_equal(range_decode(stream, symbols.size, symbols.dtype), symbols)


@given(SYMBOLS)
@settings(max_examples=60, deadline=None)  # a code of 65536 words is made in Python
def test_huffman_coding_gives_every_symbol_back(symbols: Symbols):
    stream = huffman_encode(symbols)
    assert huffman_size(symbols) == len(stream)
    decoded = huffman_decode(stream, symbols.size, symbols.dtype)
    assert decoded.dtype == symbols.dtype
    assert np.array_equal(decoded, symbols)


def weights(rng: np.random.Generator) -> Symbols:
    return np.clip(np.rint(rng.normal(128, 12, 4 * MILLION)), 0, 255).astype(np.uint8)


def codebook(rng: np.random.Generator) -> Symbols:
    return np.clip(np.rint(rng.normal(7.5, 1.8, 4 * MILLION)), 0, 15).astype(np.uint8)


def sparse(rng: np.random.Generator) -> Symbols:
    return (rng.random(4 * MILLION) < 0.02).astype(np.uint8) * rng.integers(1, 9, 4 * MILLION, dtype=np.uint8)


def gaps(rng: np.random.Generator) -> Symbols:
    return np.minimum(rng.geometric(0.05, 4 * MILLION), 65535).astype(np.uint16)


def wide(rng: np.random.Generator) -> Symbols:
    return np.clip(np.rint(rng.laplace(32768, 60, 4 * MILLION)), 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("make", [weights, codebook, sparse, gaps, wide], ids=lambda make: make.__name__)
def test_four_million_symbols_take_their_entropy(make: Callable[[np.random.Generator], Symbols]):
    symbols = make(np.random.default_rng(0))
    stream = coded(symbols)
    assert entropy(symbols) <= len(stream) <= 1.001 * entropy(symbols)
    assert np.array_equal(range_decode(stream, symbols.size, symbols.dtype), symbols)


def test_the_size_is_that_of_another_range_coder():
    constriction = pytest.importorskip("constriction", reason="constriction has no wheel for this machine")
    symbols = codebook(np.random.default_rng(1))[:MILLION]
    counts = np.bincount(symbols)
    model = constriction.stream.model.Categorical(counts / counts.sum(), perfect=False)
    oracle = constriction.stream.queue.RangeEncoder()
    oracle.encode(symbols.astype(np.int32), model)
    theirs = oracle.get_compressed().nbytes
    assert len(coded(symbols)) == pytest.approx(theirs, rel=2e-4)  # ours holds the model, too


def test_one_symbol_takes_no_bytes_however_often():
    assert len(coded(np.full(MILLION, 200, np.uint8))) == len(coded(np.full(2 * MILLION, 200, np.uint8))) < 10


def test_huffman_takes_a_bit_for_each_symbol_at_least():
    assert huffman_size(np.zeros(8000, np.uint8)) > 1000


def test_huffman_words_are_kept_short_enough_to_decode(monkeypatch: pytest.MonkeyPatch):
    # Counts like Fibonacci's numbers make the longest words there are.
    counts = [1, 1]
    while len(counts) < 20:
        counts.append(counts[-1] + counts[-2])
    symbols = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
    free = huffman_encode(symbols)
    monkeypatch.setattr(coders, "_LONGEST_WORD", 12)
    limited = huffman_encode(symbols)
    assert limited != free
    assert len(limited) == huffman_size(symbols)
    assert np.array_equal(huffman_decode(limited, symbols.size, np.uint8), symbols)


@pytest.mark.parametrize(
    ("lengths", "match"),
    [([1, 1, 1], "complete"), ([2, 2, 2], "complete"), ([2], "complete"), ([0, 0], "complete"), ([32], "too long")],
)
def test_a_huffman_code_that_is_none_is_refused(lengths: list[int], match: str):
    stream = coders._table(np.array(lengths, np.uint8)) + b"\0"
    with pytest.raises(CoderError, match=match):
        huffman_decode(stream, 3, np.uint8)


def test_a_word_of_no_symbol_is_refused():
    stream = huffman_encode(np.full(10, 7, np.uint8))
    assert (huffman_decode(stream, 10, np.uint8) == 7).all()
    with pytest.raises(CoderError, match="no symbol"):
        huffman_decode(stream[:-1] + b"\x40", 10, np.uint8)


@pytest.mark.parametrize("make", [weights, codebook, sparse, gaps, wide], ids=lambda make: make.__name__)
def test_huffman_words_are_those_of_another_coder(make: Callable[[np.random.Generator], Symbols]):
    symbols = make(np.random.default_rng(5))[: MILLION // 10]
    _, by_length, order = canonical_huffman(
        {int(symbol): int(count) for symbol, count in zip(*np.unique(symbols, return_counts=True), strict=True)}
    )
    # Words of a length go to the symbols in the order of their numbers.
    lengths = np.repeat(np.arange(len(by_length)), by_length)
    order = [symbol for _, symbol in sorted(zip(lengths.tolist(), order, strict=True))]
    stream = huffman_encode(symbols)
    bits = int(lengths[np.argsort(order)][np.searchsorted(np.sort(order), symbols)].sum())
    words = bitarray(endian="big")
    words.frombytes(stream[-((bits + 7) // 8) :])
    assert np.array_equal(np.fromiter(canonical_decode(words[:bits], by_length, order), symbols.dtype), symbols)
    assert not words[bits:].any()
    assert len(by_length) - 1 > 11 or make in (codebook, sparse)  # longer than one look into the decoder's table
    assert np.array_equal(huffman_decode(stream, symbols.size, symbols.dtype), symbols)


def test_room_is_never_exceeded():
    symbols = np.random.default_rng(2).integers(0, 256, 1000).astype(np.uint8)
    size = len(coded(symbols))
    assert range_encode(symbols, room=size) == coded(symbols)
    assert all(range_encode(symbols, room=room) is None for room in (0, 1, 9, 500, size - 1))


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.float32])
def test_other_types_are_refused(dtype: type):
    for encode in (range_encode, huffman_encode):
        with pytest.raises(CoderError, match=np.dtype(dtype).name):
            encode(np.zeros(3, dtype))
    with pytest.raises(CoderError):
        range_decode(b"", 0, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_streams_that_are_cut_off_or_longer_are_refused(dtype: type):
    symbols = np.random.default_rng(3).binomial(30, 0.3, 200).astype(dtype)
    for encode, decode in ((coded, range_decode), (huffman_encode, huffman_decode)):
        stream = encode(symbols)
        for size in range(len(stream)):
            with pytest.raises(CoderError):
                decode(stream[:size], symbols.size, dtype)
        with pytest.raises(CoderError):
            decode(stream + b"\0", symbols.size, dtype)
        with pytest.raises(CoderError):
            decode(stream, 8 * symbols.size, dtype)


@given(st.binary(max_size=200), st.integers(0, 2000), st.sampled_from((np.uint8, np.uint16)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_decoded_or_refused(stream: bytes, count: int, dtype: type):
    for decode in (range_decode, huffman_decode):
        try:
            symbols = decode(stream, count, dtype)
        except CoderError:
            continue
        assert symbols.shape == (count,)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_changed_bytes_are_decoded_or_refused(data: st.DataObject):
    # Without a checksum other symbols may come out; nothing else may happen.
    dtype = data.draw(st.sampled_from((np.uint8, np.uint16)))
    symbols = np.random.default_rng(4).binomial(500, 0.3, 300).astype(dtype)
    for encode, decode in ((coded, range_decode), (huffman_encode, huffman_decode)):
        stream = bytearray(encode(symbols))
        place = data.draw(st.integers(0, len(stream) - 1))
        stream[place] ^= data.draw(st.integers(1, 255))
        with contextlib.suppress(CoderError):
            assert decode(bytes(stream), symbols.size, dtype).shape == symbols.shape
