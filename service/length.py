"""How long a recording is, by its first bytes and its size: a guess for the queue, before anything is decoded."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

_HEAD_BYTES: Final = 64
# 32 kbit/s: what speech usually takes in a lossy format.
_LOSSY_BYTES_PER_SECOND: Final = 4000.0
_LEAST_RATE: Final = 1000


def likely_seconds(source: BinaryIO) -> float:
    """Seconds of audio in `source`: from the header of WAV and FLAC, for other formats from the number of bytes.

    Headers may lie, and it may not be audio at all. `source` is left where it was.
    """
    place = source.tell()
    head = source.read(_HEAD_BYTES)
    size = source.seek(0, os.SEEK_END)
    source.seek(place)
    size -= place
    return _wav(head, size) or _flac(head) or size / _LOSSY_BYTES_PER_SECOND


def _wav(head: bytes, size: int) -> float:
    # RIFF, WAVE, then the chunk "fmt " with the bytes per second 16 bytes in.
    if head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or len(head) < 32:
        return 0.0
    (rate,) = struct.unpack_from("<I", head, 28)
    return size / rate if rate >= _LEAST_RATE else 0.0


def _flac(head: bytes) -> float:
    # fLaC, then the block STREAMINFO (RFC 9639, section 8.2): 20 bits of sample rate, 8 of others, 36 of sample count.
    if head[:4] != b"fLaC" or len(head) < 26:
        return 0.0
    rate = int.from_bytes(head[18:21], "big") >> 4
    samples = int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF
    return samples / rate if rate >= _LEAST_RATE else 0.0
