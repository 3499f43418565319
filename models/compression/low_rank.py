"""Rank factorisation: a matrix as the product of a tall and a wide one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.compression.base import (
    Array,
    Calibration,
    Compressed,
    CompressionError,
    GraphBuilder,
    Matrix,
    Plan,
    finish,
)
from models.compression.coding import decode_arrays, encode_arrays
from models.compression.stored import add_bias, budget, checked

Real = npt.NDArray[np.float64]

# ONNX Runtime packs the columns of a constant factor of MatMul in groups of so many.
PACKED_COLUMNS = 16


def factorise(weight: npt.NDArray[Any], rank: int, moment: Real | None = None) -> tuple[Real, Real]:
    """The best factors ``A`` [Q, rank] and ``B`` [rank, R] of `weight` [Q, R], split evenly between the two.

    Without `moment` this is the truncated SVD. With the mean outer product ``H = L · L'`` of the inputs it is that of
    the whitened weight, ``L' · W``, whose right singular vectors ``B`` give ``A = W · B'`` without any inversion: it
    minimises ``trace((W - A·B)' · H · (W - A·B))``. Source: Yuan et al., "ASVD", arXiv 2312.05821, and Wang et al.,
    "SVD-LLM", arXiv 2403.07378.
    """
    W = np.asarray(weight, np.float64)
    if W.shape[1] <= W.shape[0]:
        _, vectors = np.linalg.eigh(W.T @ (W if moment is None else moment @ W))
        right = vectors[:, ::-1][:, :rank].T
    else:
        whitened = W if moment is None else np.linalg.cholesky(moment).T @ W
        _, vectors = np.linalg.eigh(whitened @ whitened.T)
        # The rows are orthogonal already; the QR decomposition gives them length 1, also where they are zero.
        right = np.linalg.qr((vectors[:, ::-1][:, :rank].T @ whitened).T)[0].T
    left = W @ right.T
    scale = np.sqrt(np.linalg.norm(left, axis=0))
    scale = np.where(scale > 0, scale, 1.0)
    return left / scale, right * scale[:, None]


class LowRank:
    """The weight as ``A · B``."""

    name = "low-rank"
    summary = "truncated SVD: two thin matrices one after the other, plain ONNX nodes"
    source = "rank factorisation (Eckart and Young, 1936); whitened: SVD-LLM, arXiv 2403.07378"

    def sizes(self, Q: int, R: int) -> tuple[float, float]:
        """From rank 1 to the rank at which nothing is lost, where it takes more than the weight itself."""
        each = (Q + R) / (Q * R)
        return each, min(Q, R) * each

    def plan(self, Q: int, R: int, relative_size: float, *, rank: int = 1) -> Plan:
        """The largest number of columns K of ``A`` that the size allows; `rank` has no meaning here.

        Raises:
            SizeError: not even one fits; the message names the reachable range.
        """
        allowed = budget(self.name, Q, R, relative_size, self.sizes(Q, R))
        K = min(allowed // (4 * (Q + R)), Q, R)
        return Plan(self.name, Q, R, 4 * K * (Q + R), {"K": K})

    def compress(self, weight: Matrix, plan: Plan, calibration: Calibration | None = None) -> Compressed:
        """Truncated SVD of `weight` [Q, R]; with calibration, of the whitened weight."""
        plain = self._finish(weight, plan, calibration, None)
        if calibration is None:
            return plain
        aware = self._finish(weight, plan, calibration, calibration.damped())
        return min(aware, plain, key=lambda result: result.output_error or 0.0)

    def _finish(self, weight: Matrix, plan: Plan, calibration: Calibration | None, moment: Real | None) -> Compressed:
        A, B = factorise(weight, int(plan.geometry["K"]), moment)
        arrays = {"A": np.ascontiguousarray(A, np.float32), "B": np.ascontiguousarray(B, np.float32)}
        return finish(self, weight, plan, arrays, calibration)

    def decompress(self, compressed: Compressed) -> Matrix:
        """The product."""
        product: Matrix = compressed.arrays["A"] @ compressed.arrays["B"]
        return product

    def export(self, compressed: Compressed, builder: GraphBuilder, name: str, x: str, bias: str | None) -> str:
        """Add two MatMuls (and Add)."""
        for key in ("A", "B"):
            x = builder.node("MatMul", [x, builder.constant(f"{name}.{key}", compressed.arrays[key])])
        return add_bias(builder, x, bias)

    def export_lookup(self, compressed: Compressed, builder: GraphBuilder, name: str, indices: str) -> str:
        """Add a Gather of columns of ``B``, and a MatMul."""
        A, B = (builder.constant(f"{name}.{key}", compressed.arrays[key]) for key in ("A", "B"))
        return builder.node("MatMul", [A, builder.node("Gather", [B, indices], axis=1)])

    def plan_conv(self, shape: Sequence[int], relative_size: float) -> Plan:
        """The plan of a convolution's kernel [N, C, ...]: that of its matrix.

        Raises:
            SizeError: as `plan`.
        """
        return self.plan(int(np.prod(shape[1:])), shape[0], relative_size)

    def export_conv(
        self,
        compressed: Compressed,
        builder: GraphBuilder,
        name: str,
        x: str,
        bias: str | None,
        attributes: Mapping[str, Any],
    ) -> str:
        """Add a Conv to K channels and a Conv with one tap."""
        if attributes.get("group", 1) != 1:
            raise CompressionError(f"{name}: {self.name} takes no convolution in groups")
        taps = [int(size) for size in attributes["kernel_shape"]]
        plan, K = compressed.plan, int(compressed.plan.geometry["K"])
        if plan.Q % int(np.prod(taps)):
            raise CompressionError(f"{name}: a weight with {plan.Q} inputs has no kernel of {taps}")
        kernels = []
        # The factors are stored as everywhere else; a session turns them into kernels once, when it is created.
        for key, shape in (("A", [K, -1, *taps]), ("B", [plan.R, K, *[1] * len(taps)])):
            factor = builder.constant(f"{name}.{key}", compressed.arrays[key])
            turned = builder.node("Transpose", [factor], perm=[1, 0])
            form = builder.constant(f"{name}.{key}.shape", np.array(shape, np.int64))
            kernels.append(builder.node("Reshape", [turned, form]))
        hidden = builder.node("Conv", [x, kernels[0]], **attributes)
        return builder.node("Conv", [hidden, kernels[1], *([] if bias is None else [bias])])

    def resident_bytes(self, compressed: Compressed) -> int:
        """ONNX Runtime keeps the factors once, packed: columns are filled up to groups of 16."""
        Q, R, K = compressed.plan.Q, compressed.plan.R, int(compressed.plan.geometry["K"])

        def packed(columns: int) -> int:
            return -(-columns // PACKED_COLUMNS) * PACKED_COLUMNS

        return 4 * (Q * packed(K) + K * packed(R))

    def encode(self, compressed: Compressed) -> bytes:
        """The factors, coded without loss."""
        return encode_arrays(compressed.arrays)

    def decode(self, stream: bytes, plan: Plan) -> Mapping[str, Array]:
        """The factors of a stream that `encode` made for `plan`.

        Raises:
            StreamError: the stream is truncated, corrupted or made for something else.
        """
        K = int(plan.geometry["K"])
        return checked(decode_arrays(stream), {"A": (np.float32, (plan.Q, K)), "B": (np.float32, (K, plan.R))})
