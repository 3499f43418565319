"""DeepThin: a matrix as the re-layout of a low-rank product (Sotoudeh and Baghsorkhi, arXiv 1802.06944)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.layout import Geometry, inverse_relayout


@dataclass(frozen=True, slots=True)
class DeepThinFactors:
    """Factors of one matrix.

    Attributes:
        geometry: the shape of the matrix and of the factors.
        Xf: [m, r].
        Wf: [r, n].
        relative_error: Frobenius norm of the difference over that of the matrix.
    """

    geometry: Geometry
    Xf: npt.NDArray[np.float64]
    Wf: npt.NDArray[np.float64]
    relative_error: float


def factorise(weight: npt.NDArray[Any], geometry: Geometry) -> DeepThinFactors:
    """The best factors of `weight` [Q, R] in the Frobenius norm: the truncated SVD of its inverse re-layout.

    The surplus values of the auxiliary matrix are taken as zero; at most n - 1 of them exist, so the loss is small.
    """
    auxiliary = inverse_relayout(np.asarray(weight, dtype=np.float64), geometry.n)
    auxiliary = np.pad(auxiliary, ((0, geometry.m - auxiliary.shape[0]), (0, 0)))
    # The smaller Gram matrix has the same leading vectors and is far cheaper than the SVD of a long thin matrix.
    r = geometry.r
    if geometry.n <= geometry.m:
        values, vectors = np.linalg.eigh(auxiliary.T @ auxiliary)
        Wf = vectors[:, ::-1][:, :r].T
        Xf = auxiliary @ Wf.T
    else:
        values, vectors = np.linalg.eigh(auxiliary @ auxiliary.T)
        Xf = vectors[:, ::-1][:, :r]
        Wf = Xf.T @ auxiliary
    kept = float(np.clip(values[::-1][:r], 0.0, None).sum())
    total = float(np.square(auxiliary).sum())
    scale = np.sqrt(np.linalg.norm(Xf, axis=0) / np.maximum(np.linalg.norm(Wf, axis=1), 1e-30))
    # Both factors get the root of the singular value per entry, so that one learning rate suits them.
    balance = scale * np.power(geometry.n / geometry.m, 0.25)
    balance = np.where(balance > 0, balance, 1.0)
    error = np.sqrt(max(total - kept, 0.0) / total) if total > 0 else 0.0
    return DeepThinFactors(geometry, Xf / balance, Wf * balance[:, None], float(error))
