"""``deepthin bench formats``: the other stored matrices against ONNX Runtime's own fp32 MatMul with a constant weight.

Sparse, shared, hashed and shuffled matrices save memory first of all: some are slower than a dense product, and the
table says so. How they are timed: `ops.benchmarks.timing`. Beside the time of one thread stand three bounds, of what
the core was measured to do in the same run:

- bytes: the stored arrays at the rate at which it reads as many bytes over and over;
- arithmetic: a multiply-add for every weight that is not left out, at its peak;
- look-ups: loads, of which a core does two in the cycle in which it multiplies and adds two vectors. A value that is
  found by an index is a load of its own, be it an input of a sparse matrix or a value of a codebook; several indices
  come with one load. One row finds every weight for itself. In a block of rows (two vectors) each weight is spread over
  a vector by a load, and an entry of a sparse matrix leads to two vectors of inputs that nothing else uses. Codes of 2
  and 4 bits are looked up in registers for one row (AVX2), by shuffles of which a core does as many as loads.
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
from ops.library import instruction_set
from ops.markdown import table
from ops.measure import peak_flops, read_bandwidth
from ops.packing import pack_bits, packed_bytes

Arrays = Mapping[str, NDArray[Any]]

_LANES = {"scalar": 4, "neon": 4, "avx2": 8, "avx512": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Comparison):
    """One comparison.

    Attributes:
        setting: What the matrix is like, such as ``5% of entries``.
        size: Bytes stored by those of the dense fp32 matrix.
        byte_seconds, arithmetic_seconds, lookup_seconds: The least time that the bytes, the multiply-adds and the
            look-ups take on one core; see above.
    """

    setting: str
    size: float
    byte_seconds: float
    arithmetic_seconds: float
    lookup_seconds: float

    @property
    def roofline(self) -> float:
        """Time by the longer one of the bounds of bytes and of arithmetic."""
        return self.seconds / max(self.byte_seconds, self.arithmetic_seconds)

    @property
    def bound(self) -> float:
        """Time by the longest one of all three bounds."""
        return self.seconds / max(self.byte_seconds, self.arithmetic_seconds, self.lookup_seconds)


@dataclass(frozen=True, slots=True)
class Stored:
    """A random square matrix as an operator takes it.

    Attributes:
        op: The operator.
        setting: What it is like.
        arrays: Its constants.
        attributes: Its attributes, but for Q and R.
        weights: How many of its weights are not left out.
        lookups: Loads that it takes to make it for one row.
        block_lookups: Loads for a block of rows, without those that all blocks share.
    """

    op: str
    setting: str
    arrays: Arrays
    attributes: Mapping[str, int]
    weights: int
    lookups: float
    block_lookups: float

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(array.nbytes for array in self.arrays.values())

    def loads(self, batch: int, lanes: int) -> float:
        """Loads for a batch, of which up to half as many rows as there are lanes are taken one by one."""
        return batch * self.lookups if 2 * batch <= lanes else self.block_lookups * -(-batch // (2 * lanes))

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
        f"{'size':>6} {'time':>9} {'dense':>9} {'speed-up':>8} {'roofline':>8} {'with look-ups':>13}",
        line=lambda row: (
            f"{row.Q:>6} {row.threads:>7} {row.batch:>5} {row.op:>18} {row.setting:>24} {row.size:>6.4f} "
            f"{row.seconds * 1e6:>9.1f} {row.baseline_seconds * 1e6:>9.1f} {row.speedup:>7.1f}x "
            f"{row.roofline:>7.1f}x {row.bound:>12.1f}x"
        ),
        page=("formats", page),
    )


def page(rows: Sequence[Row]) -> str:
    """The rows of one thread as a table."""
    columns = ["matrix", "operator", "", "batch", "size", "µs", "times faster than fp32"]
    columns += ["bytes, µs", "arithmetic, µs", "look-ups, µs", "time by the longest"]
    lines = [
        [
            f"{row.Q} x {row.R}",
            f"`{row.op}`",
            row.setting,
            f"{row.batch}",
            f"{row.size:.3f}",
            f"{row.seconds * 1e6:.0f}",
            f"{row.speedup:.2f}",
            *(f"{bound * 1e6:.1f}" for bound in (row.byte_seconds, row.arithmetic_seconds, row.lookup_seconds)),
            f"{row.bound:.1f}",
        ]
        for row in rows
        if row.threads == 1
    ]
    return f"{kernel_setting()}.\n\n" + table(columns, lines, left=3)


def measure(sides: Sequence[int], batches: Sequence[int], threads: Sequence[int], rounds: int) -> Iterator[Row]:
    """Yield one row per square shape, thread count, batch and stored matrix."""
    rng = np.random.default_rng(0)
    # Two vectors are multiplied and added in a cycle, and as many values can be loaded for that.
    peak, lanes = peak_flops(), _LANES[instruction_set()]
    for side in sides:
        matrices = list(_matrices(rng, side))
        bandwidths = [read_bandwidth(stored.nbytes) for stored in matrices]
        for place, found in compare(side, [stored.model(side) for stored in matrices], batches, threads, rounds):
            stored = matrices[place]
            yield Row(
                op=stored.op,
                setting=stored.setting,
                size=stored.nbytes / (4 * side * side),
                byte_seconds=stored.nbytes / bandwidths[place],
                arithmetic_seconds=2 * stored.weights * found["batch"] / peak,
                lookup_seconds=2 * lanes * stored.loads(found["batch"], lanes) / peak,
                **found,
            )


def _matrices(rng: np.random.Generator, side: int) -> Iterator[Stored]:
    for density in (0.05, 0.1):
        yield _csr(rng, side, density)
    every = side * side
    for bits in (1, 2, 4, 8):
        arrays = {
            "codebook": rng.standard_normal(1 << bits, np.float32),
            "indices": rng.integers(0, 256, side * packed_bytes(bits, side), np.uint8),
        }
        # A block: a byte for each code, and its value.
        yield Stored(
            "CodebookMatMul", f"{bits} bits", arrays, {"bits": bits}, every, every * _looked_up(bits), 2 * every
        )
    yield _codebook_csr(rng, side, 0.1)
    for share in (8, 64):
        values = rng.standard_normal(max(1, every // share), np.float32)
        yield Stored("HashedMatMul", f"1/{share} of values", {"values": values}, {"seed": 1}, every, every, every)
    geometry = solve(side, side, 0.1)
    factors = {
        "Xf": rng.standard_normal((geometry.m, 1), np.float32),
        "Wf": rng.standard_normal((1, geometry.n), np.float32),
    }
    yield Stored("DeepThinMatMul", "shuffled, .1 of values", factors, {"shuffle": 1}, every, 2 * every, every)


def _looked_up(bits: int) -> float:
    """Loads or shuffles for a weight of a codebook."""
    if bits in (2, 4) and instruction_set() == "avx2":
        return 12 / 32  # the four bytes of 32 values, put together by two steps of two
    # A byte of codes, of which a load brings eight, and what it stands for: a sum of values and inputs, or a value.
    return (1 + 1 / 8) * bits / 8


def _csr(rng: np.random.Generator, side: int, density: float) -> Stored:
    kept = rng.random((side, side)) < density
    arrays: dict[str, NDArray[Any]] = {
        "values": rng.standard_normal(int(kept.sum()), np.float32),
        "inputs": np.nonzero(kept)[1].astype(np.uint16),
        "starts": np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32),
    }
    count = int(kept.sum())
    # An input, and a quarter of a load for where it is; for a block two vectors of inputs, and the weight.
    row, block = 1 + 1 / 4, 3 + 1 / 4
    return Stored("CsrMatMul", f"{density:.0%} of entries", arrays, {}, count, row * count, block * count)


def _codebook_csr(rng: np.random.Generator, side: int, density: float) -> Stored:
    """Entries at regular distances: few enough for the gaps' 4 bits, so that no fillers are needed."""
    step = round(1 / density)
    each = side // step
    codebook = rng.standard_normal(32, np.float32)
    codebook[0] = 0
    bits, entries = {"value_bits": 5, "gap_bits": 4}, side * each
    arrays: dict[str, NDArray[Any]] = {
        "codebook": codebook,
        "symbols": pack_bits(rng.integers(1, 32, entries), 5),
        "gaps": pack_bits(np.full(entries, step - 1), 4),
        "starts": np.arange(side + 1, dtype=np.int32) * each,
    }
    # A symbol, its value and an input, or two vectors of them; the gaps of eight entries are summed up together.
    row, block = 3 + 1 / 8, 4 + 1 / 8
    name = f"{density:.0%} of entries, 5+4 bits"
    return Stored("CodebookCsrMatMul", name, arrays, bits, entries, row * entries, block * entries)
