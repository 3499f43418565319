"""``deepthin bench formats``: the other stored matrices against ONNX Runtime's own fp32 MatMul with a constant weight.

Sparse, shared, hashed and shuffled matrices save memory first of all: some are slower than a dense product, and the
table says so. How they are timed: `ops.benchmarks.timing`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops import graph
from ops.benchmarks.report import KERNELS, KERNELS_QUICK, kernel_setting, report
from ops.benchmarks.timing import Comparison, compare, one_node_model
from ops.layout import solve
from ops.packing import pack_bits, packed_bytes

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Comparison):
    """One comparison.

    Attributes:
        setting: What the matrix is like, such as ``5% of entries``.
        size: Bytes stored by those of the dense fp32 matrix.
    """

    setting: str
    size: float


@dataclass(frozen=True, slots=True)
class Stored:
    """A random square matrix as an operator takes it."""

    op: str
    setting: str
    arrays: Arrays
    attributes: Mapping[str, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def model(self, side: int) -> bytes:
        """A model of the operator alone."""
        node = graph.node(self.op, ["X", *self.arrays], ["Y"], "deepthin", Q=side, R=side, **self.attributes)
        return one_node_model(node, side, side, self.arrays)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit status."""
    return report(
        argv,
        prog="deepthin bench formats",
        description="Time the operators on sparse, shared, hashed and shuffled matrices against ONNX Runtime's fp32 "
        "MatMul.",
        quick="1024 x 1024 and one thread only, with fewer rounds",
        rows=lambda quick: measure((1024,), *KERNELS_QUICK) if quick else measure((1024, 2048), *KERNELS),
        head=f"{kernel_setting()}\n{'Q = R':>6} {'threads':>7} {'batch':>5} {'operator':>18} {'setting':>24} "
        f"{'size':>6} {'time':>9} {'dense':>9} {'speed-up':>8}",
        line=lambda row: (
            f"{row.Q:>6} {row.threads:>7} {row.batch:>5} {row.op:>18} {row.setting:>24} {row.size:>6.4f} "
            f"{row.seconds * 1e6:>9.1f} {row.baseline_seconds * 1e6:>9.1f} {row.speedup:>7.1f}x"
        ),
    )


def measure(sides: Sequence[int], batches: Sequence[int], threads: Sequence[int], rounds: int) -> Iterator[Row]:
    """Yield one row per square shape, thread count, batch and stored matrix."""
    rng = np.random.default_rng(0)
    for side in sides:
        matrices = list(_matrices(rng, side))
        for place, found in compare(side, [stored.model(side) for stored in matrices], batches, threads, rounds):
            stored = matrices[place]
            yield Row(op=stored.op, setting=stored.setting, size=stored.nbytes / (4 * side * side), **found)


def _matrices(rng: np.random.Generator, side: int) -> Iterator[Stored]:
    for density in (0.05, 0.1):
        yield _csr(rng, side, density)
    for bits in (1, 2, 4, 8):
        arrays = {
            "codebook": rng.standard_normal(1 << bits, np.float32),
            "indices": rng.integers(0, 256, side * packed_bytes(bits, side), np.uint8),
        }
        yield Stored("CodebookMatMul", f"{bits} bits", arrays, {"bits": bits})
    yield _codebook_csr(rng, side, 0.1)
    for share in (8, 64):
        values = rng.standard_normal(max(1, side * side // share), np.float32)
        yield Stored("HashedMatMul", f"1/{share} of values", {"values": values}, {"seed": 1})
    geometry = solve(side, side, 0.1)
    factors = {
        "Xf": rng.standard_normal((geometry.m, 1), np.float32),
        "Wf": rng.standard_normal((1, geometry.n), np.float32),
    }
    yield Stored("DeepThinMatMul", "shuffled, .1 of values", factors, {"shuffle": 1})


def _csr(rng: np.random.Generator, side: int, density: float) -> Stored:
    kept = rng.random((side, side)) < density
    arrays: dict[str, NDArray[Any]] = {
        "values": rng.standard_normal(int(kept.sum()), np.float32),
        "inputs": np.nonzero(kept)[1].astype(np.uint16),
        "starts": np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32),
    }
    return Stored("CsrMatMul", f"{density:.0%} of entries", arrays, {})


def _codebook_csr(rng: np.random.Generator, side: int, density: float) -> Stored:
    """Entries at regular distances: few enough for the gaps' 4 bits, so that no fillers are needed."""
    step = round(1 / density)
    each = side // step
    codebook = rng.standard_normal(32, np.float32)
    codebook[0] = 0
    arrays: dict[str, NDArray[Any]] = {
        "codebook": codebook,
        "symbols": pack_bits(rng.integers(1, 32, side * each), 5),
        "gaps": pack_bits(np.full(side * each, step - 1), 4),
        "starts": np.arange(side + 1, dtype=np.int32) * each,
    }
    return Stored("CodebookCsrMatMul", f"{density:.0%} of entries, 5+4 bits", arrays, {"value_bits": 5, "gap_bits": 4})
