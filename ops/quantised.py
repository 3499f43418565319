"""Factors of DeepThin matrices in fewer bits: half precision, and 8 bits with a scale for every 64 rows.

``DeepThinMatMul`` takes either factor as float16. It takes ``Xf``, which is nearly all of a matrix where n is small, as
int8 too; what it then stands for is ``float16(Xf · scale)``. The kernels keep and read both as float16.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.errors import GeometryError

SCALED_ROWS = 64
"""Rows of ``Xf`` that share a scale, for each of its columns."""


def quantise_rows(Xf: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The nearest int8 codes ``[m, r]`` of ``Xf``, and scales ``[ceil(m / 64), r]`` by the largest value of each."""
    m, r = Xf.shape
    blocks = np.zeros((-(-m // SCALED_ROWS), SCALED_ROWS, r))
    blocks.reshape(-1, r)[:m] = Xf
    scales = (np.abs(blocks).max(axis=1) / 127).astype(np.float32)
    by = np.where(scales > 0, scales, 1)[:, None]
    codes = np.rint(blocks / by).astype(np.int8)
    return codes.reshape(-1, r)[:m], scales


def dequantise_rows(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float16]:
    """What codes ``[m, r]`` and scales ``[ceil(m / 64), r]`` stand for.

    Raises:
        GeometryError: There are not as many scales as the codes need.
    """
    m, r = codes.shape
    if scales.shape != (-(-m // SCALED_ROWS), r):
        raise GeometryError(f"{m} x {r} codes need {-(-m // SCALED_ROWS)} x {r} scales, not {scales.shape}")
    values = codes.astype(np.float32) * np.repeat(scales, SCALED_ROWS, axis=0)[:m]
    return values.astype(np.float16)
