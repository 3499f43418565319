"""Opening the networks of a package."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from models.errors import GraphMismatchError
from ops import library
from ops.errors import DeepThinError


def open_session(file: Path, *, threads: int, arena: bool = False) -> ort.InferenceSession:
    """A session of the network in `file` on `threads` threads; `arena` as in `ops.library.session`.

    Raises:
        GraphMismatchError: it cannot be run.
        LibraryMissingError, LibraryMismatchError: the op library cannot be used.
    """
    try:
        return library.session(file, threads=threads, arena=arena)
    except DeepThinError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base class.
        raise GraphMismatchError(f"{file} is not a network that can be run: {error}") from error
