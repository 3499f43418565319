"""The graph file: named sections of little-endian arrays behind one header, made to be memory-mapped.

Layout: 8 bytes ``DTGRAPH\\0``, u32 format version, u32 number of sections; per section 16 bytes of name, u64 offset,
u64 bytes; then the sections, each starting at a multiple of 64. The C++ side is ``ops/csrc/search/graph.h``.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GraphError

MAGIC = b"DTGRAPH\0"
VERSION = 1
GRAPH_NAME = "graph.bin"
MANIFEST_NAME = "manifest.json"

_ALIGNMENT = 64
_RANK_BLOCK = 512

Bytes = npt.NDArray[np.uint8]


def pack(values: npt.NDArray[np.integer[Any]]) -> bytes:
    """Return non-negative integers below 2**32 in the fewest bits that hold the largest: u64 bits, u64 count, data."""
    count = len(values)
    wide = values.astype(np.uint64)
    bits = max(1, int(wide.max()).bit_length() if count else 1)
    if bits > 32:
        raise GraphError(f"{int(wide.max())} needs more than 32 bits")
    data = np.zeros((count * bits + 7) // 8 + 8, dtype=np.uint8)
    place = np.arange(count, dtype=np.uint64) * np.uint64(bits)
    first = (place >> np.uint64(3)).astype(np.int64)
    shifted = wide << (place & np.uint64(7))
    for byte in range((bits + 7) // 8 + 1):
        # Neighbours share bytes but no bits, so that adding is or-ing.
        part = ((shifted >> np.uint64(8 * byte)) & np.uint64(255)).astype(np.float64)
        data += np.bincount(first + byte, weights=part, minlength=len(data)).astype(np.uint8)
    return struct.pack("<QQ", bits, count) + data.tobytes()


def unpack(section: Bytes) -> npt.NDArray[np.uint32]:
    """Return what ``pack`` packed."""
    bits, count = struct.unpack_from("<QQ", section.data)
    data = np.asarray(section[16:])
    place = np.arange(count, dtype=np.int64) * bits
    value = np.zeros(count, dtype=np.uint64)
    for byte in range((bits + 7) // 8 + 1):
        value |= data[(place >> 3) + byte].astype(np.uint64) << np.uint64(8 * byte)
    value >>= (place & 7).astype(np.uint64)
    return (value & np.uint64((1 << bits) - 1)).astype(np.uint32)


def ranked_bits(members: npt.NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """Return a bitmap and, for every 512 bits of it, how many members come before."""
    blocks = len(members) // _RANK_BLOCK + 1
    padded = np.zeros(blocks * _RANK_BLOCK, dtype=np.bool_)
    padded[: len(members)] = members
    per_block = padded.reshape(blocks, _RANK_BLOCK).sum(axis=1)
    ranks = np.concatenate([[0], np.cumsum(per_block)[:-1]]).astype("<u4")
    return np.packbits(padded, bitorder="little").tobytes(), ranks.tobytes()


def write(folder: Path, sections: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write ``graph.bin`` and ``manifest.json``, which gets the format version, bytes and SHA-256 of the graph."""
    folder.mkdir(parents=True, exist_ok=True)
    offset = -(-(16 + 32 * len(sections)) // _ALIGNMENT) * _ALIGNMENT
    header = MAGIC + struct.pack("<II", VERSION, len(sections))
    parts: list[bytes] = []
    for name, data in sections.items():
        header += struct.pack("<16sQQ", name.encode(), offset, len(data))
        padding = -len(data) % _ALIGNMENT
        parts += [data, bytes(padding)]
        offset += len(data) + padding
    header += bytes(-len(header) % _ALIGNMENT)
    body = b"".join([header, *parts])
    (folder / GRAPH_NAME).write_bytes(body)
    stamp = {"format": VERSION, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    text = json.dumps({**stamp, **manifest}, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")


def read(folder: Path) -> tuple[Bytes, dict[str, Any]]:
    """Map ``graph.bin`` and check it against its manifest.

    Returns:
        The file's bytes, memory-mapped read-only, and the manifest.

    Raises:
        GraphError: a file is missing, of another version, truncated or corrupted; the message says which and what.
    """
    path = folder / GRAPH_NAME
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        version, size, digest = manifest["format"], manifest["bytes"], manifest["sha256"]
    except FileNotFoundError as error:
        raise GraphError(f"{folder} is no decoding graph: it has no {MANIFEST_NAME}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise GraphError(f"{folder / MANIFEST_NAME} is malformed: {error!r}") from error
    if version != VERSION:
        raise GraphError(f"{folder} has graph format {version}, this version reads {VERSION}: build the graph again")
    if not path.is_file():
        raise GraphError(f"{path} is missing")
    if path.stat().st_size != size:
        raise GraphError(f"{path} is truncated or not the manifest's: {path.stat().st_size} bytes, expected {size}")
    data = np.memmap(path, dtype=np.uint8, mode="r")
    if hashlib.sha256(data.data).hexdigest() != digest:
        raise GraphError(f"{path} is corrupted: its SHA-256 is not the manifest's")
    return data, manifest


def section(data: Bytes, name: str) -> Bytes:
    """Return one section of a graph's bytes.

    Raises:
        GraphError: there is none of that name.
    """
    if bytes(data[:8]) != MAGIC:
        raise GraphError("not a decoding graph")
    view = data.data
    (count,) = struct.unpack_from("<I", view, 12)
    for number in range(count):
        stored, offset, size = struct.unpack_from("<16sQQ", view, 16 + 32 * number)
        if stored.rstrip(b"\0").decode() == name:
            return data[offset : offset + size]
    raise GraphError(f"section {name} is missing")
