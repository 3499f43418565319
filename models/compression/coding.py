"""Named arrays as one short, self-contained, checked stream of bytes.

An array is laid out as one or more planes of small symbols, and each plane is stored raw, range coded with its own
counts, Huffman coded or deflated; of all the layouts that suit the array's type the smallest is kept. The stream:

    magic | number of arrays | arrays | CRC-32 of all that is before

    array:  name | type | shape | layout | the layout's own numbers | planes
    plane:  coder | size of the payload unless raw | payload

Numbers are LEB128 unless said otherwise, CRC and array values little-endian.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, CompressionError, StreamError
from models.compression.layouts import LAYOUTS, suitable
from ops.coders import CoderError, Symbols, huffman_decode, huffman_encode, huffman_size, range_decode, range_encode

Coder = Literal["raw", "range", "huffman", "deflate"]

LARGEST: Final = 1 << 30
"""Most bytes of arrays in one stream."""

_MAGIC: Final = b"dta\x01"
_CRC_BYTES: Final = 4
_MOST_AXES: Final = 32
_CODERS: Final[tuple[Coder, ...]] = ("raw", "range", "huffman", "deflate")
_DTYPES: Final = tuple(
    map(np.dtype, ("?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"))
)
# Tried unasked up to here: Huffman codes win by their shorter table alone, deflate where arrays repeat themselves.
_MOST_TRIED: Final = 1 << 14


def encode_arrays(arrays: Mapping[str, Array], *, coders: Mapping[str, Coder] | None = None) -> bytes:
    """The arrays as one stream that `decode_arrays` gives back bit for bit.

    Args:
        arrays: booleans, integers or floats of any shape, by name.
        coders: the coder to use for some of them, by name; the smallest is taken for the others.

    Raises:
        CompressionError: an array's type cannot be stored, there are more than `LARGEST` bytes, or `coders` names
            an array that is not there or a coder that does not exist.
    """
    coders = coders or {}
    for name, coder in coders.items():
        if name not in arrays or coder not in _CODERS:
            raise CompressionError(f"coder {coder!r} for array {name!r}: there is no such array or coder")
    total = sum(array.nbytes for array in arrays.values())
    if total > LARGEST:
        raise CompressionError(f"{total} bytes of arrays; a stream holds at most {LARGEST}")
    parts = [_MAGIC, _number(len(arrays))]
    for name, array in arrays.items():
        parts.append(_encode_array(name, array, coders.get(name)))
    body = b"".join(parts)
    return body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little")


def decode_arrays(stream: bytes, *, limit: int = LARGEST) -> dict[str, Array]:
    """The arrays of a stream of `encode_arrays`.

    Args:
        stream: the bytes, from anywhere.
        limit: most bytes that the arrays may take together. Nothing is allocated for a stream that declares more.

    Raises:
        StreamError: the stream is truncated, corrupted, something else, or declares more than `limit` bytes.
    """
    if stream[: len(_MAGIC)] != _MAGIC:
        raise StreamError("not a stream of arrays")
    body = stream[:-_CRC_BYTES]
    if (
        len(stream) < len(_MAGIC) + _CRC_BYTES
        or zlib.crc32(body).to_bytes(_CRC_BYTES, "little") != stream[-_CRC_BYTES:]
    ):
        raise StreamError("the stream is truncated or corrupted: its checksum does not fit")
    source = _Source(body, len(_MAGIC))
    arrays: dict[str, Array] = {}
    for _ in range(source.number()):
        name, array = _decode_array(source, limit)
        if name in arrays:
            raise StreamError(f"the stream has two arrays called {name!r}")
        limit -= array.nbytes
        arrays[name] = array
    if source.left:
        raise StreamError("the stream has bytes behind its last array")
    return arrays


def _encode_array(name: str, array: Array, coder: Coder | None) -> bytes:
    stored = np.asarray(array, dtype=array.dtype.newbyteorder("<"))
    if stored.dtype not in _DTYPES:
        raise CompressionError(f"array {name!r} has type {array.dtype}, which a stream cannot store")
    if array.ndim > _MOST_AXES:
        raise CompressionError(f"array {name!r} has {array.ndim} axes; a stream takes {_MOST_AXES}")
    text = name.encode()
    head = [_number(len(text)), text, bytes((_DTYPES.index(stored.dtype), array.ndim)), *map(_number, array.shape)]
    flat = np.ascontiguousarray(stored).reshape(-1)
    results = []
    for code in suitable(flat):
        parameters, planes = LAYOUTS[code].split(flat)
        results.append(bytes((code,)) + parameters + b"".join(_encode_plane(plane, coder) for plane in planes))
    return b"".join((*head, min(results, key=len)))


def _encode_plane(plane: Symbols, coder: Coder | None) -> bytes:
    if coder is None:
        coder, payload = _smallest(plane)
    elif coder == "range":
        payload = range_encode(plane) or b""
    elif coder == "huffman":
        payload = huffman_encode(plane)
    else:
        payload = plane.tobytes() if coder == "raw" else zlib.compress(plane.tobytes(), 9)
    return bytes((_CODERS.index(coder),)) + (b"" if coder == "raw" else _number(len(payload))) + payload


def _smallest(plane: Symbols) -> tuple[Coder, bytes]:
    raw = plane.tobytes()
    found: dict[Coder, bytes] = {"raw": raw}
    if ranged := range_encode(plane, room=len(raw)):
        found["range"] = ranged
    if plane.size <= _MOST_TRIED:
        found["deflate"] = zlib.compress(raw, 9)
        if huffman_size(plane) < min(map(len, found.values())):
            found["huffman"] = huffman_encode(plane)
    return min(found.items(), key=lambda item: len(item[1]))


def _decode_array(source: _Source, limit: int) -> tuple[str, Array]:
    try:
        name = source.take(source.number()).decode()
    except UnicodeDecodeError as error:
        raise StreamError("the name of an array is corrupted") from error
    kind, axes = source.take(2)
    if kind >= len(_DTYPES) or axes > _MOST_AXES:
        raise StreamError(f"the type or shape of array {name!r} is corrupted")
    dtype = _DTYPES[kind]
    shape = tuple(source.number() for _ in range(axes))
    count = math.prod(shape)
    # An axis of length 0 must not hide others that no array can have.
    if count * dtype.itemsize > limit or max(shape, default=0) > LARGEST:
        raise StreamError(f"array {name!r} of {dtype} {shape} is larger than the {limit} bytes that are allowed")
    (code,) = source.take(1)
    if code not in LAYOUTS:
        raise StreamError(f"the layout of array {name!r} is unknown")
    try:
        flat = LAYOUTS[code].join(source, dtype, count)
    except CoderError as error:
        raise StreamError(f"array {name!r}: {error}") from error
    return name, flat.reshape(shape)


class _Source:
    """The bytes of a stream, read from front to back."""

    def __init__(self, stream: bytes, position: int) -> None:
        self._stream = stream
        self._position = position

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._stream) - self._position

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise StreamError("the stream ends too early")
        self._position += size
        return self._stream[self._position - size : self._position]

    def number(self) -> int:
        """The next LEB128 number, below 2^63."""
        value = 0
        for shift in range(0, 63, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise StreamError("a number in the stream is corrupted")

    def plane(self, dtype: npt.DTypeLike, count: int) -> npt.NDArray[Any]:
        """The next plane, of `count` symbols."""
        (code,) = self.take(1)
        if code >= len(_CODERS):
            raise StreamError("the coder of an array is unknown")
        coder = _CODERS[code]
        if coder == "raw":
            return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)
        payload = self.take(self.number())
        if coder == "deflate":
            return np.frombuffer(_inflate(payload, count * np.dtype(dtype).itemsize), dtype)
        return range_decode(payload, count, dtype) if coder == "range" else huffman_decode(payload, count, dtype)


def _number(value: int) -> bytes:
    """LEB128: seven bits a byte, the least significant first."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _inflate(payload: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(payload, size + 1)
    except zlib.error as error:
        raise StreamError(f"a deflated plane is corrupted ({error})") from error
    if len(data) != size or not inflater.eof or inflater.unused_data:
        raise StreamError("a deflated plane is corrupted")
    return data
