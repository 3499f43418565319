"""Entropy coders of small integers in the compiled library: a static range coder and canonical Huffman codes.

Both carry their own model: the range coder the symbols' counts, rounded to about half of their digits, the Huffman code
the lengths of its words. Neither stream says how many symbols it has or which dtype, and neither has a checksum: that
is up to the container around them.
"""

import ctypes
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from bitarray.util import canonical_huffman

from ops.errors import DeepThinError
from ops.library import bind, library_path

Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_ERROR_BYTES: Final = 256
_NO_ROOM: Final = -2
_POINTER, _WIDTH, _SIZE = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_ARGUMENTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "range_encode": (_POINTER, _WIDTH, _SIZE, _POINTER, _SIZE),
    "range_decode": (_POINTER, _SIZE, _WIDTH, _POINTER, _SIZE),
    "huffman_encode": (_POINTER, _WIDTH, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE),
    "huffman_decode": (_POINTER, _SIZE, _POINTER, _SIZE, _WIDTH, _POINTER, _SIZE),
}
"""Arguments of the library's functions but for the last, the text of an error."""
_LONGEST_WORD: Final = 31  # bits, as the library takes them
_HEAD: Final = struct.Struct("<HI")  # last symbol of the alphabet, bytes of the table


class CoderError(DeepThinError, ValueError):
    """Symbols that cannot be coded, or a stream that is truncated or corrupted."""


@lru_cache(maxsize=8)
def _bind(path: Path) -> ctypes.CDLL:
    return bind(path, {name: (_SIZE, (*types, ctypes.c_char_p)) for name, types in _ARGUMENTS.items()})


def _call(name: str, *arguments: Any, may_lack_room: bool = False) -> int:
    """What a function of the library returns; its failure as a `CoderError`."""
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    result: int = getattr(_bind(library_path()), f"deepthin_{name}")(*arguments, error)
    if result < 0 and not (result == _NO_ROOM and may_lack_room):
        raise CoderError(error.value.decode())
    return result


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
    source = (flat.ctypes.data, flat.itemsize, flat.size)
    size = _call("range_encode", *source, out.ctypes.data, capacity, may_lack_room=room is not None)
    return None if size == _NO_ROOM or (room is not None and size > room) else out[:size].tobytes()


def range_decode(stream: bytes, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The `count` symbols of a stream of `range_encode`, one axis.

    The caller vouches for `count`: symbols that are all the same take no bytes in the stream.

    Raises:
        CoderError: the stream is truncated or corrupted, as far as can be seen without a checksum.
    """
    symbols = np.empty(count, dtype)
    _flat(symbols)
    source = np.frombuffer(stream, np.uint8)
    _call("range_decode", source.ctypes.data, source.size, symbols.itemsize, symbols.ctypes.data, count)
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
    counts = np.bincount(flat)
    lengths = _word_lengths(counts)
    out = np.empty(_words_bytes(counts, lengths), np.uint8)
    source = (flat.ctypes.data, flat.itemsize, flat.size)
    size = _call("huffman_encode", *source, lengths.ctypes.data, lengths.size, out.ctypes.data, out.size)
    return _table(lengths) + out[:size].tobytes()


def huffman_size(symbols: Symbols) -> int:
    """Bytes that `huffman_encode` would take."""
    flat = _flat(symbols)
    if not flat.size:
        return 0
    counts = np.bincount(flat)
    lengths = _word_lengths(counts)
    return len(_table(lengths)) + _words_bytes(counts, lengths)


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
    symbols, words = np.empty(count, dtype), np.frombuffer(stream, np.uint8, offset=body)
    source = (words.ctypes.data, words.size, lengths.ctypes.data, lengths.size)
    _call("huffman_decode", *source, symbols.itemsize, symbols.ctypes.data, count)
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


def _words_bytes(counts: npt.NDArray[np.int64], lengths: npt.NDArray[np.uint8]) -> int:
    """Bytes of the words of all symbols."""
    return (int(counts @ lengths.astype(np.int64)) + 7) // 8


def _table(lengths: npt.NDArray[np.uint8]) -> bytes:
    table = range_encode(lengths)
    assert table is not None
    return _HEAD.pack(len(lengths) - 1, len(table)) + table
