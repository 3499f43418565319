"""Few of the weight's entries, each with its value and its input: compressed sparse rows, one per output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compression.base import (
    Array,
    Calibration,
    Compressed,
    GraphBuilder,
    Matrix,
    Plan,
    StreamError,
    finish,
)
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.pruning import largest, prune
from models.compression.stored import budget, checked, op_inputs, shape_attributes
from ops.weights import csr_weight

_SHORT = 1 << 16


class PrunedCsr:
    """The entries that matter most, in fp32, with their inputs."""

    name = "pruned-csr"
    summary = "pruning to the entries that matter most, stored as sparse rows; pays off below a tenth of the entries"
    source = "Han et al., arXiv 1506.02626; data-aware: Boža, arXiv 2401.02938"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """From one entry to all of them, which take more than the dense weight."""
        return self._bytes(Q, R, 1) / (4 * Q * R), self._bytes(Q, R, Q * R) / (4 * Q * R)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """As many entries as the size allows; `rank` has no meaning here.

        Raises:
            SizeError: not even one fits; the message names the reachable range.
        """
        allowed = budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        entries = min((allowed - self._bytes(Q, R, 0)) // (4 + _index_type(Q).itemsize), Q * R)
        return Plan(self.name, Q, R, self._bytes(Q, R, entries), {"entries": entries})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Keep the largest entries; with calibration, those that the output needs most, fitted to each other."""
        count = int(plan.geometry["entries"])

        def keep(importance: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
            return largest(importance, count)

        values, kept = prune(weight, keep, None if calibration is None else calibration.damped())
        outputs, inputs = np.nonzero(kept.T)
        arrays = {
            "values": values[inputs, outputs],
            "inputs": inputs.astype(_index_type(plan.Q)),
            "starts": np.concatenate([[0], np.cumsum(kept.sum(axis=0))]).astype(np.int32),
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The entries at their places, zero elsewhere."""
        plan, arrays = compressed.plan, compressed.arrays
        weight: Matrix = csr_weight(plan.Q, arrays["values"], arrays["inputs"], arrays["starts"])
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a CsrMatMul."""
        keys = ("values", "inputs", "starts")
        inputs = [x, *(builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in keys)]
        shape = shape_attributes(compressed.plan.Q, compressed.plan.R)
        return builder.node("CsrMatMul", op_inputs(inputs, bias), **shape)

    def resident_bytes(self, compressed: Compressed) -> int:
        """The arrays, which the operator reads where ONNX Runtime keeps them."""
        return compressed.plan.disk_bytes

    def encode(self, compressed: Compressed) -> bytes:
        """Values, distances between the inputs of an output, and entries per output, coded without loss."""
        arrays = compressed.arrays
        starts = arrays["starts"]
        gaps = np.diff(arrays["inputs"], prepend=arrays["inputs"].dtype.type(0))
        begins = starts[:-1][np.diff(starts) > 0]
        gaps[begins] = arrays["inputs"][begins]
        return encode_arrays({"values": arrays["values"], "gaps": gaps, "counts": np.diff(starts)})

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        entries, kind = int(plan.geometry["entries"]), _index_type(plan.Q)
        expected = {"values": (np.float32, (entries,)), "gaps": (kind, (entries,)), "counts": (np.int32, (plan.R,))}
        arrays = checked(decode_arrays(stream), expected)
        counts = arrays["counts"].astype(np.int64)
        if counts.min() < 0 or counts.sum() != entries:
            raise StreamError("the entries per output of the stream do not add up")
        starts = np.concatenate([[0], np.cumsum(counts)])
        steps = arrays["gaps"].astype(np.int64)
        total = np.cumsum(steps)
        before = np.concatenate([[0], total])[starts[:-1]]
        inputs = total - np.repeat(before, counts)
        if entries and (steps.min() < 0 or inputs.max() >= plan.Q):
            raise StreamError("an entry of the stream is outside the weight")
        return {"values": arrays["values"], "inputs": inputs.astype(kind), "starts": starts.astype(np.int32)}

    def _bytes(self, Q: int, R: int, entries: int) -> int:
        return entries * (4 + _index_type(Q).itemsize) + 4 * (R + 1)


def _index_type(Q: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if Q <= _SHORT else np.int32)
