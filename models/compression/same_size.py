"""The same-size network: the layer with fewer inputs and outputs. For whole chains of layers see `narrowing`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, StreamError, finish
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.low_rank import PACKED_COLUMNS
from models.compression.narrowing import Real, refit, select
from models.compression.stored import add_bias, budget, checked


class SameSize:
    """Reads only some inputs and computes only some outputs; the other outputs are the bias."""

    name = "same-size"
    summary = "a narrower network: only the units that matter most are kept, and what reads them is refitted"
    source = "the same-size baseline of Sotoudeh and Baghsorkhi, arXiv 1802.06944"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """From one input and one output to all of both, with their indices."""
        return self._bytes(Q, R, 1, 1) / (4 * Q * R), self._bytes(Q, R, Q, R) / (4 * Q * R)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """As many inputs q and outputs r as the size allows, about the same share of both; `rank` has no meaning here.

        Raises:
            SizeError: not even one of each fits; the message names the reachable range.
        """
        allowed = budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        q = np.arange(1, Q + 1)
        each = _index(R).itemsize
        r = np.minimum((allowed - _index(Q).itemsize * q) // (4 * q + each), R)
        used = np.where(r >= 1, q * (4 * r + _index(Q).itemsize) + each * r, 0)
        uneven = np.where(r >= 1, np.abs(np.log(q / Q) - np.log(np.maximum(r, 1) / R)), np.inf)
        # Of those about as even as can be, the fullest.
        near = np.flatnonzero(uneven <= uneven.min() + 0.15)
        best = int(near[np.argmax(used[near])])
        return Plan(self.name, Q, R, int(used[best]), {"q": int(q[best]), "r": int(r[best])})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Keep what carries most of the weight or, with calibration, of the output, and refit the rest to that."""
        plain = self._finish(weight, plan, np.eye(plan.Q), calibration)
        if calibration is None:
            return plain
        aware = self._finish(weight, plan, calibration.damped(), calibration)
        return min(aware, plain, key=lambda result: result.output_error or 0.0)

    def _finish(self, weight: Matrix, plan: Plan, moment: Real, calibration: Calibration | None) -> Compressed:
        inputs = select(weight, moment, int(plan.geometry["q"]))
        fitted = refit(weight, moment, inputs)
        carried = np.einsum("qr,qr->r", fitted, moment[np.ix_(inputs, inputs)] @ fitted)
        outputs = np.sort(np.argsort(-carried, kind="stable")[: int(plan.geometry["r"])])
        arrays = {
            "weight": np.ascontiguousarray(fitted[:, outputs], np.float32),
            "inputs": inputs.astype(_index(plan.Q)),
            "outputs": outputs.astype(_index(plan.R)),
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The kept part in its places, zero elsewhere."""
        weight = np.zeros((compressed.plan.Q, compressed.plan.R), np.float32)
        arrays = compressed.arrays
        weight[np.ix_(arrays["inputs"].astype(np.int64), arrays["outputs"].astype(np.int64))] = arrays["weight"]
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add Gather, MatMul, Gather (and Add).

        A column of zeros behind the weight stands for all outputs that were left out; it and the outputs' places are
        made of constants, so that a session computes them once.
        """
        int32 = 6
        plan, r = compressed.plan, int(compressed.plan.geometry["r"])
        stored = {key: builder.constant(f"{name}.{key}", array) for key, array in compressed.arrays.items()}
        inputs, outputs = (builder.node("Cast", [stored[key]], to=int32) for key in ("inputs", "outputs"))
        end, one = (builder.constant(f"{name}.{value}", np.array(value, np.int32)) for value in (r, 1))
        order = builder.node("Range", [builder.constant(f"{name}.0", np.array(0, np.int32)), end, one])
        wide = builder.constant(f"{name}.outputs.shape", np.array([plan.R], np.int64))
        nowhere = builder.node("Expand", [end, wide])
        places = builder.node("ScatterElements", [nowhere, outputs, order], axis=0)
        tall = builder.constant(f"{name}.zero.shape", np.array([int(plan.geometry["q"]), 1], np.int64))
        zeros = builder.node("Expand", [builder.constant(f"{name}.zero", np.zeros((1, 1), np.float32)), tall])
        weight = builder.node("Concat", [stored["weight"], zeros], axis=1)
        y = builder.node("MatMul", [builder.node("Gather", [x, inputs], axis=-1), weight])
        return add_bias(builder, builder.node("Gather", [y, places], axis=-1), bias)

    def resident_bytes(self, compressed: Compressed) -> int:
        """The weight as ONNX Runtime packs it, with the column of zeros, and 32-bit places of inputs and outputs."""
        q, r = int(compressed.plan.geometry["q"]), int(compressed.plan.geometry["r"])
        columns = -(-(r + 1) // PACKED_COLUMNS) * PACKED_COLUMNS
        return 4 * (q * columns + q + compressed.plan.R)

    def encode(self, compressed: Compressed) -> bytes:
        """The arrays, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        q, r = int(plan.geometry["q"]), int(plan.geometry["r"])
        expected = {
            "weight": (np.dtype(np.float32), (q, r)),
            "inputs": (_index(plan.Q), (q,)),
            "outputs": (_index(plan.R), (r,)),
        }
        arrays = checked(decode_arrays(stream), expected)
        for key, side in (("inputs", plan.Q), ("outputs", plan.R)):
            if int(arrays[key].min()) < 0 or int(arrays[key].max()) >= side:
                raise StreamError(f"{key} of the stream names one beyond {side}")
        return arrays

    def _bytes(self, Q: int, R: int, q: int, r: int) -> int:
        return 4 * q * r + _index(Q).itemsize * q + _index(R).itemsize * r


def _index(side: int) -> np.dtype[np.generic]:
    """The type of an index below `side`."""
    return np.dtype(np.uint16 if side <= 1 << 16 else np.int32)
