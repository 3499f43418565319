"""Training one DeepThin layer at the compressed cost: products and gradients of the compiled library, through ctypes.

``W`` is never built. Each row of inputs is correlated with ``Wf``, a banded product with ``Xf`` gives the outputs, and
the gradients are the same two steps taken back. Multiply-adds per row, forward and backward: about
``r·(4·n·Q + 3·(Q·R/n + R))`` instead of ``3·Q·R``.

Arrays are given as addresses of contiguous float32 memory (``array.ctypes.data``, ``tensor.data_ptr()``), and the GIL
is released while the library works. The results are the same, bit for bit, for the same number of threads.
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from ops.errors import DeepThinError, LibraryMissingError
from ops.layout import Geometry
from ops.library import bind, library_path

_ERROR_BYTES: Final = 256
ACTIVATIONS: Final = ("", "relu", "clipped_relu", "sigmoid", "tanh")


class TrainingError(DeepThinError, ValueError):
    """The library refused a layer, or ran out of memory."""


@dataclass(frozen=True, slots=True)
class Gradients:
    """Where `backward` writes the gradients; addresses of contiguous float32 memory.

    Attributes:
        Xf: [m, r]
        Wf: [r, n]
        x: [rows, Q], or None where it is not asked for.
        bias: [R], or None.
    """

    Xf: int
    Wf: int
    x: int | None = None
    bias: int | None = None


class _Shape(ctypes.Structure):
    _fields_ = (
        ("Q", ctypes.c_int64),
        ("R", ctypes.c_int64),
        ("m", ctypes.c_int64),
        ("n", ctypes.c_int64),
        ("r", ctypes.c_int64),
        ("activation", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    )


def forward(
    geometry: Geometry,
    Xf: int,
    Wf: int,
    bias: int | None,
    x: int,
    rows: int,
    y: int,
    *,
    activation: str = "",
    threads: int = 1,
) -> None:
    """Write ``y = activation(x · W + bias)``.

    Args:
        geometry: of the factors.
        Xf: [m, r]
        Wf: [r, n]
        bias: [R], or None for none.
        x: [rows, Q]
        rows: of the batch.
        y: [rows, R], written.
        activation: one of ``ACTIVATIONS``.
        threads: at most this many share the rows.

    Raises:
        TrainingError: an unknown activation, or no memory.
        LibraryMissingError, LibraryMismatchError: the library cannot be used.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    shape = _shape(geometry, activation, threads)
    if load().deepthin_train_forward(ctypes.byref(shape), Xf, Wf, bias, x, rows, y, error) != 0:
        raise TrainingError(error.value.decode())


def transposed(geometry: Geometry, Xf: int, Wf: int, dy: int, rows: int, dx: int, *, threads: int = 1) -> None:
    """Write ``dx = dy · W'``, the gradient at the inputs alone.

    Args:
        geometry: of the factors.
        Xf: [m, r]
        Wf: [r, n]
        dy: [rows, R]
        rows: of the batch.
        dx: [rows, Q], written.
        threads: at most this many share the rows.

    Raises:
        TrainingError: no memory.
        LibraryMissingError, LibraryMismatchError: the library cannot be used.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    shape = _shape(geometry, "", threads)
    if load().deepthin_train_transposed(ctypes.byref(shape), Xf, Wf, dy, rows, dx, error) != 0:
        raise TrainingError(error.value.decode())


def backward(
    geometry: Geometry,
    Xf: int,
    Wf: int,
    x: int,
    y: int | None,
    dy: int,
    rows: int,
    gradients: Gradients,
    *,
    activation: str = "",
    threads: int = 1,
) -> None:
    """Write the gradients of a loss whose gradient at the outputs is ``dy``.

    Args:
        geometry: of the factors.
        Xf: [m, r]
        Wf: [r, n]
        x: [rows, Q], the inputs.
        y: [rows, R], the outputs of `forward`; not read, and may be None, where there is no activation.
        dy: [rows, R]
        rows: of the batch.
        gradients: where they are written.
        activation: as in `forward`. A clipped or rectified unit at its limit has no gradient.
        threads: at most this many share the rows.

    Raises:
        TrainingError: an unknown activation, an activation without ``y``, or no memory.
        LibraryMissingError, LibraryMismatchError: the library cannot be used.
    """
    if activation and y is None:
        raise TrainingError(f"the gradient through {activation!r} needs its outputs")
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    shape = _shape(geometry, activation, threads)
    to = (gradients.x, gradients.Xf, gradients.Wf, gradients.bias)
    if load().deepthin_train_backward(ctypes.byref(shape), Xf, Wf, x, y, dy, rows, *to, error) != 0:
        raise TrainingError(error.value.decode())


def ctc(
    log_probs: int,
    shape: tuple[int, int, int],
    lengths: int,
    labels: int,
    label_lengths: int,
    losses: int,
    gradient: int,
) -> None:
    """Write the CTC losses of a batch and the gradient of their sum (Graves et al., ICML 2006).

    A sequence that its frames cannot hold has loss and gradient 0.

    Args:
        log_probs: float32 [batch, frames, units], natural logs; unit 0 is the blank.
        shape: of ``log_probs``.
        lengths: int64 [batch], frames of each utterance.
        labels: int64, the sequences one after the other.
        label_lengths: int64 [batch]; the labels must be as many as these say.
        losses: float64 [batch], written.
        gradient: float32 of ``shape``, written: with respect to ``log_probs``.

    Raises:
        TrainingError: a length above ``frames``, a label that is no unit or the blank, or no memory.
        LibraryMissingError, LibraryMismatchError: the library cannot be used.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    to = (lengths, labels, label_lengths, losses, gradient)
    if load().deepthin_train_ctc(log_probs, *shape, *to, error) != 0:
        raise TrainingError(error.value.decode())


def crf_normaliser(
    log_probs: int, shape: tuple[int, int, int], lengths: int, probabilities: int, weights: int, gradient: int
) -> None:
    """Write the log weights of all CTC-CRF paths and the gradient of their sum (Xiang and Ou, ICASSP 2019).

    Args:
        log_probs: float32 [batch, frames, units], natural logs; unit 0 is the blank.
        shape: of ``log_probs``.
        lengths: int64 [batch], frames of each utterance.
        probabilities: float32 [units, units, units], of unit c after a and b; 0 is the start as a and b, the end as c.
        weights: float64 [batch], written.
        gradient: float32 of ``shape``, written: every unit's share of the weight, frame by frame.

    Raises:
        TrainingError: a length above ``frames``, no units, or no memory.
        LibraryMissingError, LibraryMismatchError: the library cannot be used.
    """
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    if load().deepthin_train_crf(log_probs, *shape, lengths, probabilities, weights, gradient, error) != 0:
        raise TrainingError(error.value.decode())


def work(geometry: Geometry) -> int:
    """Multiply-adds per row of a forward and a backward pass; a dense layer's are ``3·Q·R``."""
    Q, R, n, r = geometry.Q, geometry.R, geometry.n, geometry.r
    return r * (4 * n * Q + 3 * (Q * R // n + R))


def _shape(geometry: Geometry, activation: str, threads: int) -> _Shape:
    if activation not in ACTIVATIONS:
        raise TrainingError(f"unknown activation {activation!r}; known are {', '.join(map(repr, ACTIVATIONS))}")
    number = ACTIVATIONS.index(activation)
    return _Shape(geometry.Q, geometry.R, geometry.m, geometry.n, geometry.r, number, threads)


def load() -> ctypes.CDLL:
    """The compiled library with its training functions.

    Raises:
        LibraryMissingError, LibraryMismatchError: it cannot be used.
    """
    return _bind(library_path())


def available() -> bool:
    """Whether there is a library; one that is there and cannot be used is an error.

    Raises:
        LibraryMismatchError: it cannot be used.
    """
    try:
        load()
    except LibraryMissingError:
        return False
    return True


@lru_cache(maxsize=8)
def _bind(path: Path) -> ctypes.CDLL:
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    shape: Any = ctypes.POINTER(_Shape)
    arguments = {
        "train_forward": (shape, *[pointer] * 4, size, pointer, ctypes.c_char_p),
        "train_transposed": (shape, *[pointer] * 3, size, pointer, ctypes.c_char_p),
        "train_backward": (shape, *[pointer] * 5, size, *[pointer] * 4, ctypes.c_char_p),
        "train_ctc": (pointer, *[size] * 3, *[pointer] * 5, ctypes.c_char_p),
        "train_crf": (pointer, *[size] * 3, *[pointer] * 4, ctypes.c_char_p),
    }
    return bind(path, {name: (ctypes.c_int32, types) for name, types in arguments.items()})
