"""Low-rank factors whose entries are few shared values, range-coded by how often each is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.compression.base import Array, Calibration, Compressed, GraphBuilder, Matrix, Plan, StreamError, finish
from models.compression.codebook import pack_rows, quantise, row_bytes, unpack_rows
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.low_rank import factorise
from models.compression.stored import budget, checked, op_inputs, shape_attributes
from ops.weights import codebook_weight

Real = npt.NDArray[np.float64]

_BITS: Final = range(2, 7)
_TABLE_BYTES: Final = 1024  # each operator's own copy of its codebook, always of 256 values
_DAMPING: Final = 1e-6
_SPECTRUM: Final = 0.006  # the share of all ranks that holds half of the energy
_DISTORTION: Final = {2: 0.1175, 3: 0.03454, 4: 0.0095, 5: 0.0025, 6: 0.00066}


class LowRankCodebook:
    """The weight as ``A · diag(scale) · B``, with one codebook for the entries of `A` and one for those of `B`."""

    name = "low-rank-codebook"
    summary = "rank factorisation with shared values in both factors, range-coded for transport"
    source = "InterDigital, DCC 2021; entropy-constrained clusters: Chou, Lookabaugh and Gray, 1989"

    def __init__(self, lagrangian: float = 0.0) -> None:
        """`lagrangian`: error, by the mean square of an entry, that a bit of an index is worth; 0: only error counts.

        Above zero the transport stream is shorter and the error larger; the bytes on disk are the same.
        """
        self.lagrangian = lagrangian

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """From rank 1 with the shortest indices to full rank with the longest."""
        smallest, largest = _bytes(Q, R, 1, _BITS[0]), _bytes(Q, R, min(Q, R), _BITS[-1])
        return smallest / (4 * Q * R), largest / (4 * Q * R)

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The bits and the rank K that promise the least error at this size; `rank` has no meaning here.

        Raises:
            SizeError: not even rank 1 fits; the message names the reachable range.
        """
        allowed = budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        candidates = []
        for bits in _BITS:
            if K := _rank(allowed, Q, R, bits):
                candidates.append((_expected_error(K / min(Q, R), bits), K, bits))
        _, K, bits = min(candidates)
        return Plan(self.name, Q, R, _bytes(Q, R, K, bits), {"K": K, "bits": bits})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Truncated SVD; share the values of `A`; refit `B` to that; share its values; refit the scales to both.

        With calibration every step minimises the error of the layer's output.
        """
        K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])
        moment = None if calibration is None else calibration.damped()
        W = np.asarray(weight, np.float64)
        A, _ = factorise(weight, K, moment)
        codebook_a, indices_a = quantise(
            _unit(A, axis=0)[0].astype(np.float32), 1 << bits, moment, lagrangian=self.lagrangian
        )
        A = codebook_a[indices_a].astype(np.float64)
        weighted = A.T if moment is None else A.T @ moment
        gram, products = _damped(weighted @ A), weighted @ W
        B, scale = _unit(np.linalg.solve(gram, products), axis=1)
        inner = gram * np.outer(scale, scale)
        codebook_b, indices_b = quantise(B.astype(np.float32), 1 << bits, inner, lagrangian=self.lagrangian)
        B = codebook_b[indices_b].astype(np.float64)
        scale = np.linalg.solve(_damped(gram * (B @ B.T)), np.einsum("kr,kr->k", products, B))
        arrays: dict[str, Array] = {
            "A.codebook": codebook_a,
            "A.indices": pack_rows(indices_a, bits),
            "scale": scale.astype(np.float32),
            "B.codebook": codebook_b,
            "B.indices": pack_rows(indices_b, bits),
        }
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The product."""
        plan, arrays = compressed.plan, compressed.arrays
        K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])
        A = codebook_weight(plan.Q, K, arrays["A.codebook"], arrays["A.indices"], bits)
        B = codebook_weight(K, plan.R, arrays["B.codebook"], arrays["B.indices"], bits)
        weight: Matrix = (A * arrays["scale"]) @ B
        return weight

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add a CodebookMatMul for each factor, and the scales between them."""
        plan, arrays = compressed.plan, compressed.arrays
        K, bits = int(plan.geometry["K"]), int(plan.geometry["bits"])

        def constant(key: str) -> str:
            return builder.constant(f"{name}.{key}", arrays[key])

        inputs = [x, constant("A.codebook"), constant("A.indices")]
        hidden = builder.node("CodebookMatMul", inputs, bits=bits, **shape_attributes(plan.Q, K))
        scaled = builder.node("Mul", [hidden, constant("scale")])
        inputs = op_inputs([scaled, constant("B.codebook"), constant("B.indices")], bias)
        return builder.node("CodebookMatMul", inputs, bits=bits, **shape_attributes(K, plan.R))

    def resident_bytes(self, compressed: Compressed) -> int:
        """The arrays, which the operators read where ONNX Runtime keeps them, and their tables of values."""
        return compressed.plan.disk_bytes + 2 * _TABLE_BYTES

    def encode(self, compressed: Compressed) -> bytes:
        """The indices, range-coded by their counts, codebooks and scales."""
        plan, arrays = compressed.plan, compressed.arrays
        parts = dict(arrays)
        for key, (rows, columns) in _factors(plan).items():
            parts[key] = unpack_rows(arrays[key], rows, columns, int(plan.geometry["bits"]))
        return encode_arrays(parts)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The arrays of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        bits = int(plan.geometry["bits"])
        shapes = _factors(plan)
        levels: tuple[Any, tuple[int, ...]] = (np.float32, (1 << bits,))
        expected = {
            "A.codebook": levels,
            "A.indices": (np.uint8, shapes["A.indices"]),
            "scale": (np.float32, (int(plan.geometry["K"]),)),
            "B.codebook": levels,
            "B.indices": (np.uint8, shapes["B.indices"]),
        }
        arrays = checked(decode_arrays(stream), expected)
        for key in shapes:
            if arrays[key].max() >= 1 << bits:
                raise StreamError("an index of the stream names no value")
            arrays[key] = pack_rows(arrays[key], bits)
        return arrays


def _factors(plan: Plan) -> dict[str, tuple[int, int]]:
    K = int(plan.geometry["K"])
    return {"A.indices": (plan.Q, K), "B.indices": (K, plan.R)}


def _bytes(Q: int, R: int, K: int, bits: int) -> int:
    return 2 * (4 << bits) + row_bytes(Q, K, bits) + row_bytes(K, R, bits) + 4 * K


def _rank(allowed: int, Q: int, R: int, bits: int) -> int:
    """The largest rank that fits into `allowed` bytes, 0 if none does."""
    low, high = 0, min(Q, R)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _bytes(Q, R, middle, bits) <= allowed else (low, middle - 1)
    return low


def _expected_error(share: float, bits: int) -> float:
    """Share of the output's energy that is lost: beyond a share of all ranks, and by sharing values.

    The spectrum is that of a trained layer on real speech, roughly; sharing costs what it does normally distributed
    values at best (Max, 1960), of which refitting gives a fifth back.
    """
    return 1 / (1 + share / _SPECTRUM) + 0.8 * _DISTORTION[bits]


def _unit(factor: npt.NDArray[Any], *, axis: int) -> tuple[Real, Real]:
    """A factor with columns (axis 0) or rows (axis 1) of unit mean square, and what they were multiplied by."""
    scale = np.sqrt(np.mean(np.square(factor), axis=axis))
    scale = np.where(scale > 0, scale, 1.0)
    return factor / np.expand_dims(scale, axis), scale


def _damped(gram: Real) -> Real:
    """A Gram matrix that can be inverted even if shared values made columns of a factor alike."""
    return gram + max(_DAMPING * float(np.trace(gram)) / len(gram), 1e-30) * np.eye(len(gram))
