"""Codebooks of 256 values for log probabilities."""

import numpy as np
import numpy.typing as npt

from .ngram import FloatArray

CODES = 256
_BINS = 1 << 14


def quantise(values: FloatArray, iterations: int = 30) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return a code for each value and the sorted codebook, [256], chosen to make the squared error small.

    Lloyd's algorithm on a histogram, started at the quantiles. 0 keeps a code of its own where it occurs: a back-off
    weight of 1 is common and must stay exact.
    """
    book = np.zeros(CODES, dtype=np.float64)
    distinct = np.unique(values)
    if len(distinct) <= CODES:
        book[: len(distinct)] = distinct
        book[len(distinct) :] = distinct[-1] if len(distinct) else 0.0
    else:
        low, high = float(distinct[0]), float(distinct[-1])
        counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
        centres = (edges[:-1] + edges[1:]) / 2
        book = np.quantile(values, (np.arange(CODES) + 0.5) / CODES)
        # Quantiles repeat where values pile up; spread half of the codes over the range for the thin tails.
        book[::2] = np.linspace(low, high, CODES // 2)
        book.sort()
        for _ in range(iterations):
            nearest = np.searchsorted((book[:-1] + book[1:]) / 2, centres)
            mass = np.bincount(nearest, weights=counts, minlength=CODES)
            total = np.bincount(nearest, weights=counts * centres, minlength=CODES)
            book = np.where(mass > 0, total / np.maximum(mass, 1), book)
            book.sort()
        if (distinct == 0.0).any():
            book[np.argmin(np.abs(book))] = 0.0
    stored = book.astype(np.float32)
    middles = (stored[:-1].astype(np.float64) + stored[1:]) / 2
    return np.searchsorted(middles, values).astype(np.uint8), stored
