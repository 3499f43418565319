"""What products with DeepThin matrices take on this processor, and what it can do at most, by the compiled library.

Times are the least of many short ones on the calling thread, without a session around them.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ops.errors import DeepThinError
from ops.layout import Geometry
from ops.library import bind, library_path

_ERROR_BYTES: Final = 256


class MeasureError(DeepThinError, ValueError):
    """The library could not measure what it was asked to."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one call takes.

    Attributes:
        seconds: All of it; 0 where it was not timed.
        correlation_seconds: The correlation alone; 0 also where it is none of its own.
        correlation_flops, band_flops: Multiplications and additions really done.
        constant_bytes: Constants read.
        transformed: Whether the correlation is a transform.
        lanes: Whether rows are worked on side by side.
    """

    seconds: float
    correlation_seconds: float
    correlation_flops: float
    band_flops: float
    constant_bytes: float
    transformed: bool
    lanes: bool

    @property
    def flops(self) -> float:
        """Multiplications and additions of a call."""
        return self.correlation_flops + self.band_flops


class _Shape(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("Q", "R", "m", "n", "r"))


class _Measured(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("seconds", "correlation_seconds")),
        *((name, ctypes.c_double) for name in ("correlation_flops", "band_flops", "bytes")),
        ("transformed", ctypes.c_int32),
        ("lanes", ctypes.c_int32),
    )


def measure_product(geometry: Geometry, rows: int, seconds: float = 0.0) -> Measured:
    """What ``x · W`` takes for ``rows`` rows, timed for ``seconds``; 0 counts and does not time.

    Raises:
        MeasureError: The library refused; the message says why.
        LibraryMissingError, LibraryMismatchError: It cannot be used.
    """
    shape = _Shape(geometry.Q, geometry.R, geometry.m, geometry.n, geometry.r)
    found, error = _Measured(), ctypes.create_string_buffer(_ERROR_BYTES)
    if _library().deepthin_measure_product(ctypes.byref(shape), rows, seconds, ctypes.byref(found), error):
        raise MeasureError(error.value.decode())
    return Measured(
        found.seconds,
        found.correlation_seconds,
        found.correlation_flops,
        found.band_flops,
        found.bytes,
        bool(found.transformed),
        bool(found.lanes),
    )


def estimate_products(Q: int, R: int, rows: int, choices: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """What products of ``rows`` rows consist of, for each (n, r).

    Returns:
        ``[len(choices), 8]``: of the rows that are taken one after the other, how many they are, and the operations of
        their taps, of their transforms and of their banded products; then the same of blocks of rows. Operations are
        vector multiply-adds that take about as long.

    Raises:
        MeasureError, LibraryMissingError, LibraryMismatchError: As `measure_product`.
    """
    count = len(choices)
    n, r = ((ctypes.c_int64 * count)(*(choice[i] for choice in choices)) for i in (0, 1))
    found, error = (ctypes.c_double * (8 * count))(), ctypes.create_string_buffer(_ERROR_BYTES)
    shape = _Shape(Q, R, 1, 1, 1)
    if _library().deepthin_estimate_products(ctypes.byref(shape), rows, n, r, count, found, error):
        raise MeasureError(error.value.decode())
    return np.array(found).reshape(count, 8)


def kept_bytes(geometry: Geometry, *, half_Xf: bool = False, half_Wf: bool = False) -> int:
    """Bytes that a session's ``DeepThinMatMul`` keeps beside the factors: its packed copy, tables and transforms.

    Args:
        geometry: Of the matrix.
        half_Xf: Whether ``Xf`` is stored as float16, or in 8 bits.
        half_Wf: Whether ``Wf`` is stored as float16.

    Raises:
        MeasureError, LibraryMissingError, LibraryMismatchError: As `measure_product`.
    """
    shape = _Shape(geometry.Q, geometry.R, geometry.m, geometry.n, geometry.r)
    found, error = ctypes.c_int64(), ctypes.create_string_buffer(_ERROR_BYTES)
    if _library().deepthin_kept_bytes(ctypes.byref(shape), half_Xf, half_Wf, ctypes.byref(found), error):
        raise MeasureError(error.value.decode())
    return found.value


def peak_flops(seconds: float = 0.1) -> float:
    """Multiplications and additions in a second that one core does in registers.

    Raises:
        LibraryMissingError, LibraryMismatchError: The library cannot be used.
    """
    return float(_library().deepthin_measure_peak(seconds))


def read_bandwidth(size: int, seconds: float = 0.1) -> float:
    """Bytes in a second that one core reads of ``size`` bytes, over and over.

    Raises:
        LibraryMissingError, LibraryMismatchError: The library cannot be used.
    """
    return float(_library().deepthin_measure_bandwidth(size // 4, seconds))


def _library() -> ctypes.CDLL:
    return _bind(library_path())


@lru_cache(maxsize=8)
def _bind(path: Path) -> ctypes.CDLL:
    pointer, size, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    shape: Any = ctypes.POINTER(_Shape)
    return bind(
        path,
        {
            "measure_product": (
                ctypes.c_int32,
                (shape, size, real, ctypes.POINTER(_Measured), ctypes.c_char_p),
            ),
            "estimate_products": (
                ctypes.c_int32,
                (shape, size, pointer, pointer, size, pointer, ctypes.c_char_p),
            ),
            "kept_bytes": (
                ctypes.c_int32,
                (shape, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(size), ctypes.c_char_p),
            ),
            "measure_peak": (real, (real,)),
            "measure_bandwidth": (real, (size, real)),
        },
    )
