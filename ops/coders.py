"""Entropy coders of small integers: a static range coder (in the compiled library) and canonical Huffman codes.

Both carry their own model: the range coder the symbols' counts, rounded to about half of their digits, the Huffman code
the lengths of its words. Neither stream says how many symbols it has or which dtype, and neither has a checksum: that
is up to the container around them.
"""

import ctypes
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bitarray import bitarray
from bitarray.util import canonical_decode, canonical_huffman, int2ba

from ops.errors import DeepThinError, LibraryMismatchError
from ops.library import check_library, library_path

Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_ERROR_BYTES: Final = 256
_NO_ROOM: Final = -2
_LONGEST_WORD: Final = 31  # bits, as `canonical_decode` takes them
_HEAD: Final = struct.Struct("<HI")  # last symbol of the alphabet, bytes of the table


class CoderError(DeepThinError, ValueError):
    """Symbols that cannot be coded, or a stream that is truncated or corrupted."""


@lru_cache(maxsize=8)
def _bind(path: Path) -> ctypes.CDLL:
    check_library(path)
    library = ctypes.CDLL(str(path.resolve()))
    pointer, size, text = ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p
    try:
        encode, decode = library.deepthin_range_encode, library.deepthin_range_decode
    except AttributeError as error:
        raise LibraryMismatchError(f"{path} has no range coder: reinstall the package (pip install .)") from error
    encode.restype = decode.restype = size
    encode.argtypes = (pointer, ctypes.c_int32, size, pointer, size, text)
    decode.argtypes = (pointer, size, ctypes.c_int32, pointer, size, text)
    return library


def range_encode(symbols: Symbols, *, room: int | None = None) -> bytes | None:
    """Code symbols with a range coder whose model is the symbols' own counts.

    The size is the empirical entropy of the symbols and the table of counts, in which a symbol takes 2 to 15 bits.
    After Martin, "Range encoding" (1979); the static counts as in InterDigital's low-rank coding (DCC 2021).

    Args:
        symbols: uint8 or uint16 of any shape, taken in C order.
        room: largest size of interest in bytes; None for any.

    Returns:
        The stream, or None when it takes more than `room`.

    Raises:
        CoderError: another dtype.
    """
    flat = _flat(symbols)
    # A symbol takes at most 28 bits, a count of the table far less than 16 bytes.
    most = 4 * flat.size + 16 * min(1 << 16, 1 << (8 * flat.itemsize)) + 32
    capacity = most if room is None else min(most, room + 8)  # the coder writes eight bytes at a time
    out = np.empty(capacity, np.uint8)
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    size: int = _bind(library_path()).deepthin_range_encode(
        flat.ctypes.data, flat.itemsize, flat.size, out.ctypes.data, capacity, error
    )
    if size == _NO_ROOM and room is not None:
        return None
    if size < 0:
        raise CoderError(error.value.decode())
    return None if room is not None and size > room else out[:size].tobytes()


def range_decode(stream: bytes, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The `count` symbols of a stream of `range_encode`, one axis.

    The caller vouches for `count`: symbols that are all the same take no bytes in the stream.

    Raises:
        CoderError: the stream is truncated or corrupted, as far as can be seen without a checksum.
    """
    symbols = np.empty(count, dtype)
    _flat(symbols)
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    source = np.frombuffer(stream, np.uint8)
    code = _bind(library_path()).deepthin_range_decode(
        source.ctypes.data, source.size, symbols.itemsize, symbols.ctypes.data, count, error
    )
    if code < 0:
        raise CoderError(error.value.decode())
    return symbols


def huffman_encode(symbols: Symbols) -> bytes:
    """Code symbols with a canonical Huffman code (Huffman 1952; Schwartz and Kallick 1964).

    The stream begins with the lengths of the words, range coded. A symbol takes at least one bit.

    Raises:
        CoderError: a dtype other than uint8 and uint16.
    """
    flat = _flat(symbols)
    if not flat.size:
        return b""
    lengths = _word_lengths(np.bincount(flat))
    bits = bitarray(endian="big")
    bits.encode(_words(lengths), flat.tolist())
    return _table(lengths) + bits.tobytes()


def huffman_size(symbols: Symbols) -> int:
    """Bytes that `huffman_encode` would take."""
    flat = _flat(symbols)
    if not flat.size:
        return 0
    counts = np.bincount(flat)
    lengths = _word_lengths(counts)
    return len(_table(lengths)) + (int(counts @ lengths.astype(np.int64)) + 7) // 8


def huffman_decode(stream: bytes, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The `count` symbols of a stream of `huffman_encode`, one axis.

    Raises:
        CoderError: the stream is truncated or corrupted, as far as can be seen without a checksum.
    """
    _flat(np.empty(0, dtype))
    if count == 0:
        if stream:
            raise CoderError("the stream of no symbols is not empty")
        return np.empty(0, dtype)
    if len(stream) < _HEAD.size or count > 8 * len(stream):
        raise CoderError("the Huffman stream is truncated")
    last, size = _HEAD.unpack_from(stream)
    body = _HEAD.size + size
    if body > len(stream) or last > np.iinfo(dtype).max:
        raise CoderError("the table of the Huffman stream is corrupted")
    lengths = range_decode(stream[_HEAD.size : body], last + 1, np.uint8)
    # Only a complete code has a symbol for every word; a code of one symbol is the exception.
    used = lengths[lengths > 0].astype(np.int64)
    complete = (
        used.size and used.max() <= _LONGEST_WORD and int((1 << (_LONGEST_WORD - used)).sum()) == 1 << _LONGEST_WORD
    )
    if not complete and used.tolist() != [1]:
        raise CoderError("the table of the Huffman stream is corrupted")
    bits = bitarray(endian="big")
    bits.frombytes(stream[body:])
    words = canonical_decode(bits, np.bincount(used).tolist(), _ordered(lengths).tolist())
    try:
        symbols = np.fromiter(words, dtype, count)
    except ValueError as error:
        raise CoderError(f"the Huffman stream is truncated or corrupted ({error})") from error
    if (int(lengths[symbols].sum(dtype=np.int64)) + 7) // 8 != len(stream) - body:
        raise CoderError("the Huffman stream does not end where its symbols do")
    return symbols


def _flat(symbols: npt.NDArray[Any]) -> Symbols:
    if symbols.dtype not in (np.uint8, np.uint16):
        raise CoderError(f"symbols of type {symbols.dtype}; the coders take uint8 and uint16")
    return np.ascontiguousarray(symbols).reshape(-1)


def _word_lengths(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Bits of each symbol's word, 0 for symbols that do not occur."""
    while True:
        _, by_length, symbols = canonical_huffman(
            {int(symbol): int(counts[symbol]) for symbol in np.flatnonzero(counts)}
        )
        if len(by_length) <= _LONGEST_WORD + 1:
            break
        counts = (counts + 1) // 2  # flatter, so that the longest words get shorter
    lengths = np.zeros(len(counts), np.uint8)
    lengths[symbols] = np.repeat(np.arange(len(by_length)), by_length)
    return lengths


def _ordered(lengths: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The symbols that occur, in the order of their canonical words."""
    return np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]


def _words(lengths: npt.NDArray[np.uint8]) -> dict[int, bitarray]:
    words, word, previous = {}, 0, 0
    for symbol in _ordered(lengths).tolist():
        length = int(lengths[symbol])
        word <<= length - previous
        words[symbol] = int2ba(word, length, endian="big")
        word, previous = word + 1, length
    return words


def _table(lengths: npt.NDArray[np.uint8]) -> bytes:
    table = range_encode(lengths)
    assert table is not None
    return _HEAD.pack(len(lengths) - 1, len(table)) + table
