"""Random matrices in each of the stored formats, with the dense matrices that they stand for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.packing import pack_bits
from ops.weights import codebook_csr_weight, codebook_weight, csr_weight, hashed_weight, shuffled_weight
from tests.ops.operators import factors

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """A matrix as an operator takes it.

    Attributes:
        op: The operator.
        inputs: Its constant inputs, in order.
        attributes: Its attributes, but for Q and R.
        weight: float64 [Q, R].
    """

    op: str
    inputs: dict[str, Array]
    attributes: dict[str, int]
    weight: NDArray[np.float64]


def csr(rng: np.random.Generator, Q: int, R: int, density: float, wide: bool = False) -> Stored:
    mask = rng.random((R, Q)) < density
    starts = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int32)
    inputs = np.nonzero(mask)[1].astype(np.int32 if wide or Q > 65536 else np.uint16)
    values = _normal(rng, Q, inputs.size)
    weight = csr_weight(Q, values.astype(np.float64), inputs, starts)
    return Stored("CsrMatMul", {"values": values, "inputs": inputs, "starts": starts}, {}, weight)


def codebook(rng: np.random.Generator, Q: int, R: int, bits: int, size: int | None = None) -> Stored:
    size = size or 1 << bits
    values = _normal(rng, Q, size)
    indices = np.concatenate([pack_bits(row, bits) for row in rng.integers(0, size, (R, Q))])
    weight = codebook_weight(Q, R, values.astype(np.float64), indices, bits)
    return Stored("CodebookMatMul", {"codebook": values, "indices": indices}, {"bits": bits}, weight)


def codebook_csr(rng: np.random.Generator, Q: int, R: int, density: float, value_bits: int, gap_bits: int) -> Stored:
    size = 1 << value_bits
    values = _normal(rng, Q, size)
    values[0] = 0
    symbols: list[int] = []
    gaps: list[int] = []
    starts = [0]
    longest = (1 << gap_bits) - 1
    for _ in range(R):
        place = -1
        for q in np.flatnonzero(rng.random(Q) < density):
            while (gap := int(q) - place - 1) > longest:
                symbols.append(0)
                gaps.append(longest)
                place += longest + 1
            symbols.append(int(rng.integers(0, size)))
            gaps.append(gap)
            place = int(q)
        starts.append(len(symbols))
    stored = {
        "codebook": values,
        "symbols": pack_bits(np.array(symbols, np.uint8), value_bits),
        "gaps": pack_bits(np.array(gaps, np.uint8), gap_bits),
        "starts": np.array(starts, np.int32),
    }
    attributes = {"value_bits": value_bits, "gap_bits": gap_bits}
    arrays = (values.astype(np.float64), *list(stored.values())[1:])
    return Stored("CodebookCsrMatMul", stored, attributes, codebook_csr_weight(Q, *arrays, value_bits, gap_bits))


def hashed(rng: np.random.Generator, Q: int, R: int, K: int, seed: int) -> Stored:
    values = _normal(rng, Q, K)
    return Stored("HashedMatMul", {"values": values}, {"seed": seed}, hashed_weight(Q, R, values.astype(float), seed))


def shuffled(rng: np.random.Generator, Q: int, R: int, n: int, r: int, seed: int) -> Stored:
    Xf, Wf = factors(rng, Q, R, n, r)
    weight = shuffled_weight(Xf.astype(np.float64), Wf.astype(np.float64), Q, R, seed)
    return Stored("DeepThinMatMul", {"Xf": Xf, "Wf": Wf}, {"shuffle": seed}, weight)


def _normal(rng: np.random.Generator, Q: int, count: int) -> NDArray[np.float32]:
    """Values of a variance that gives outputs one of about 1."""
    return (Q**-0.5 * rng.standard_normal(count)).astype(np.float32)
