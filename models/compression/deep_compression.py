"""Deep Compression: prune, share the values that are left, store how far apart they are, Huffman-code all of it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, StreamError, finish
from models.compression.codebook import quantise
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.pruning import prune
from models.compression.relative_index import expected_fillers, fit, inputs_of, lay_out
from models.compression.stored import budget, checked, op_inputs, shape_attributes
from ops.packing import pack_bits, packed_bytes, unpack_bits
from ops.weights import codebook_csr_weight

_VALUE_BITS: Final = range(2, 9)
_GAP_BITS: Final = range(3, 9)
_TABLE_BYTES: Final = 1024  # the operator's own copy of the codebook, always of 256 values


class DeepCompression:
    """Few shared values at few places.

    Attributes of the plan's geometry: `entries`, fillers among them; `value_bits` of an index into the codebook,
    whose first value is the zero of the fillers; `gap_bits` of the number of zeros that an entry follows.
    """

    name = "deep-compression"
    summary = "pruning, shared values and relative indices, Huffman-coded for transport"
    source = "Han et al., arXiv 1510.00149"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """From one entry with the shortest codes to all of them with the longest."""
        dense = 4 * Q * R
        return _bytes(R, 1, _VALUE_BITS[0], _GAP_BITS[0]) / dense, self._largest(Q, R) / dense

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The numbers of bits that promise the least error at this size, and as many entries as then fit.

        The promise is for weights with normally distributed entries and for entries kept at random places; `rank` has
        no meaning here.

        Raises:
            SizeError: not even one entry fits; the message names the reachable range.
        """
        allowed = budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        best: tuple[float, int, int, int] | None = None
        for value_bits in _VALUE_BITS:
            for gap_bits in _GAP_BITS:
                entries = min(_entries(allowed, R, value_bits, gap_bits), Q * R)
                if entries < 1:
                    continue
                kept = _density(entries / (Q * R), gap_bits)
                candidate = _expected_error(kept, value_bits), entries, value_bits, gap_bits
                best = candidate if best is None else min(best, candidate)
        assert best is not None
        _, entries, value_bits, gap_bits = best
        geometry = {"entries": entries, "value_bits": value_bits, "gap_bits": gap_bits}
        return Plan(self.name, Q, R, _bytes(R, entries, value_bits, gap_bits), geometry)

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Prune until entries and fillers are as many as planned, then share values by k-means.

        With calibration, entries, values and their sharing are chosen for the layer's output.
        """
        entries, value_bits, gap_bits = _geometry(plan)
        moment = None if calibration is None else calibration.damped()

        def keep(importance: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
            return fit(importance, entries, gap_bits)

        values, kept = prune(weight, keep, moment)
        levels, indices = quantise(values, 1 << value_bits, moment, kept=kept & (values != 0))
        places, gaps, counts = lay_out(kept, gap_bits)
        symbols = np.where(places >= 0, indices.T.reshape(-1)[places], 0)
        return finish(self, weight, plan, _packed(levels, symbols, gaps, counts, plan), calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The shared values at their places, zero elsewhere."""
        plan, arrays = compressed.plan, compressed.arrays
        _, value_bits, gap_bits = _geometry(plan)
        codebook, symbols, gaps, starts = (arrays[key] for key in ("codebook", "symbols", "gaps", "starts"))
        weight: Matrix = codebook_csr_weight(plan.Q, codebook, symbols, gaps, starts, value_bits, gap_bits)
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a CodebookCsrMatMul."""
        _, value_bits, gap_bits = _geometry(compressed.plan)
        keys = ("codebook", "symbols", "gaps", "starts")
        inputs = [x, *(builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in keys)]
        shape = shape_attributes(compressed.plan.Q, compressed.plan.R)
        return builder.node(
            "CodebookCsrMatMul", op_inputs(inputs, bias), value_bits=value_bits, gap_bits=gap_bits, **shape
        )

    def resident_bytes(self, compressed: Compressed) -> int:
        """The arrays, which the operator reads where ONNX Runtime keeps them, and its table of values."""
        return compressed.plan.disk_bytes + _TABLE_BYTES

    def encode(self, compressed: Compressed) -> bytes:
        """Codebook, symbols, gaps and entries per output; symbols and gaps always by Huffman codes, as in the paper."""
        entries, value_bits, gap_bits = _geometry(compressed.plan)
        arrays = compressed.arrays
        parts = {
            "codebook": arrays["codebook"],
            "symbols": unpack_bits(arrays["symbols"], value_bits, entries),
            "gaps": unpack_bits(arrays["gaps"], gap_bits, entries),
            "counts": np.diff(arrays["starts"]),
        }
        return encode_arrays(parts, coders={"symbols": "huffman", "gaps": "huffman"})

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        entries, value_bits, gap_bits = _geometry(plan)
        expected = {
            "codebook": (np.float32, (1 << value_bits,)),
            "symbols": (np.uint8, (entries,)),
            "gaps": (np.uint8, (entries,)),
            "counts": (np.int32, (plan.R,)),
        }
        arrays = checked(decode_arrays(stream), expected)
        counts = arrays["counts"].astype(np.int64)
        if counts.min() < 0 or counts.sum() != entries:
            raise StreamError("the entries per output of the stream do not add up")
        if arrays["symbols"].max() >= 1 << value_bits or arrays["gaps"].max() >= 1 << gap_bits:
            raise StreamError("a symbol or gap of the stream is too large")
        if arrays["codebook"][0] != 0 or inputs_of(arrays["gaps"], counts).max() >= plan.Q:
            raise StreamError("an entry of the stream is outside the weight, or its fillers are not zero")
        return _packed(arrays["codebook"], arrays["symbols"], arrays["gaps"], counts, plan)

    def _largest(self, Q: int, R: int) -> int:
        return _bytes(R, Q * R, _VALUE_BITS[-1], _GAP_BITS[-1])


def _geometry(plan: Plan) -> tuple[int, int, int]:
    entries, value_bits, gap_bits = (int(plan.geometry[key]) for key in ("entries", "value_bits", "gap_bits"))
    return entries, value_bits, gap_bits


def _packed(codebook: Array, symbols: Array, gaps: Array, counts: Array, plan: Plan) -> dict[str, Array]:
    _, value_bits, gap_bits = _geometry(plan)
    return {
        "codebook": codebook,
        "symbols": pack_bits(symbols, value_bits),
        "gaps": pack_bits(gaps, gap_bits),
        "starts": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
    }


def _bytes(R: int, entries: int, value_bits: int, gap_bits: int) -> int:
    codes = packed_bytes(value_bits, entries) + packed_bytes(gap_bits, entries)
    return (4 << value_bits) + codes + 4 * (R + 1)


def _entries(allowed: int, R: int, value_bits: int, gap_bits: int) -> int:
    """How many entries fit into `allowed` bytes; below 1 if none does."""
    entries = 8 * (allowed - _bytes(R, 0, value_bits, gap_bits)) // (value_bits + gap_bits)
    while entries > 0 and _bytes(R, entries, value_bits, gap_bits) > allowed:
        entries -= 1
    return entries


def _density(entries: float, gap_bits: int) -> float:
    """The share of the places kept where entries, fillers included, are a share `entries` of them."""
    low, high = 0.0, entries
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if middle * (1 + expected_fillers(middle, gap_bits)) < entries else (low, middle)
    return low


def _expected_error(density: float, value_bits: int) -> float:
    """Share of the energy of normally distributed entries that is lost by keeping the largest and sharing values."""
    if density <= 0:
        return 1.0
    normal = NormalDist()
    threshold = -normal.inv_cdf(density / 2) if density < 1 else 0.0
    energy = density + 2 * threshold * normal.pdf(threshold)
    mean = 2 * normal.pdf(threshold) / density
    spread = max(energy - density * mean**2, 0.0)
    # Between the 1 of uniform and the 9/4 of exponential tails, by the square of the values of one sign.
    return 1.0 - energy + spread * min(1.0, 1.6 / (((1 << value_bits) - 1) / 2) ** 2)
