"""Which stored value the hash gives each entry of a matrix, and where a shuffled matrix's entries are found.

Both are computed from the entry's number ``k = c * Q + q`` and a seed, so that nothing but the seed is stored. The
finaliser is MurmurHash3's (Appleby, 2011). Hashed weights: Chen et al., "Compressing Neural Networks with the Hashing
Trick", ICML 2015, arXiv 1504.04788.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SEED_STEP: Final = 0x9E3779B1
SIGN: Final = 0x85EBCA6B
ROUND_STEP: Final = 0x7F4A7C15
ROUNDS: Final = 4
MAX_ENTRIES: Final = 1 << 32

_LOW: Final = 0xFFFFFFFF


def fmix32(values: NDArray[Any]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finaliser, a permutation of the 32-bit numbers, of each value modulo ``2 ** 32``."""
    h = np.array(values).astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h


def hashed_entries(Q: int, R: int, K: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The stored value and the sign of every entry of a hashed matrix: ``W[q, c] = sign[q, c] * values[index[q, c]]``.

    Args:
        Q: Rows of the matrix (inputs).
        R: Columns of the matrix (outputs).
        K: How many values are stored.
        seed: Any integer; its low 32 bits count.

    Returns:
        ``index``, int32 [Q, R] in ``0 .. K - 1``, and ``sign``, float32 [Q, R] of -1 and 1.

    Raises:
        ValueError: A size is below 1, ``K`` exceeds ``2 ** 31`` or the matrix ``2 ** 32`` entries.
    """
    _check(Q, R)
    if not 1 <= K <= 1 << 31:
        raise ValueError(f"K must be between 1 and 2^31, not {K}")
    hashed = fmix32(np.arange(Q * R, dtype=np.uint32) ^ np.uint32(seed * SEED_STEP & _LOW))
    index = (hashed.astype(np.uint64) * np.uint64(K) >> np.uint64(32)).astype(np.int32)
    negative = fmix32(hashed ^ np.uint32(SIGN)) & np.uint32(1)
    sign = np.where(negative, np.float32(-1), np.float32(1))
    return index.reshape(R, Q).T, sign.reshape(R, Q).T


def shuffled_positions(Q: int, R: int, seed: int) -> NDArray[np.int64]:
    """A permutation ``p`` of ``0 .. Q * R - 1``, int64 [Q * R]: entry ``k`` of the matrix is value ``p[k]`` of another.

    A Feistel network on the smallest even number of bits that counts the entries; a number that falls outside goes
    through it again until it falls inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).

    Raises:
        ValueError: A size is below 1 or the matrix has more than ``2 ** 32`` entries.
    """
    _check(Q, R)
    total = Q * R
    half = max(1, ((total - 1).bit_length() + 1) // 2)
    positions = _permute(np.arange(total, dtype=np.uint64), half, seed)
    while (outside := np.flatnonzero(positions >= total)).size:
        positions[outside] = _permute(positions[outside], half, seed)
    return positions.astype(np.int64)


def _permute(numbers: NDArray[np.uint64], half: int, seed: int) -> NDArray[np.uint64]:
    mask = np.uint32((1 << half) - 1)
    left, right = (numbers >> np.uint64(half)).astype(np.uint32), numbers.astype(np.uint32) & mask
    for number in range(ROUNDS):
        key = np.uint32((seed * SEED_STEP ^ number * ROUND_STEP) & _LOW)
        left, right = right, left ^ (fmix32(right ^ key) & mask)
    return left.astype(np.uint64) << np.uint64(half) | right.astype(np.uint64)


def _check(Q: int, R: int) -> None:
    if min(Q, R) < 1 or Q * R > MAX_ENTRIES:
        raise ValueError(f"a matrix has 1 to 2^32 entries, not {Q} x {R}")
