"""The lexicon-tree beam search of the compiled library, through ctypes; the GIL is released while it searches."""

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ops.errors import DeepThinError
from ops.library import bind, library_path

_ERROR_BYTES = 256
NEVER = 1.0  # a log probability that no blank reaches

FloatArray = npt.NDArray[np.float32]


class SearchError(DeepThinError, RuntimeError):
    """The search refused its input or ran out of memory."""


@dataclass(frozen=True)
class SearchOptions:
    """How to weigh and prune hypotheses.

    Attributes:
        acoustic_scale: factor of the units' log probabilities.
        lm_weight: factor of the words' natural log probabilities.
        word_score: added at each word; positive values favour more words.
        beam: hypotheses further than this below the best one are dropped, in scaled natural logs.
        max_active: most hypotheses taken from one frame to the next.
        blank_skip: frames whose blank has at least this log probability are taken as blank without a search; ``NEVER``
            searches all of them.
    """

    acoustic_scale: float = 1.0
    lm_weight: float = 1.0
    word_score: float = 0.0
    beam: float = 16.0
    max_active: int = 6000
    blank_skip: float = NEVER


@dataclass(frozen=True, slots=True)
class FoundWord:
    """One word of the best path.

    Attributes:
        word: its number in the graph.
        start_frame: first frame of its first unit.
        end_frame: last frame of its last unit.
        confidence: geometric mean of the unit posteriors along its frames of the path, 0 to 1.
    """

    word: int
    start_frame: int
    end_frame: int
    confidence: float


class _Options(ctypes.Structure):
    _fields_ = (
        ("acoustic_scale", ctypes.c_float),
        ("lm_weight", ctypes.c_float),
        ("word_score", ctypes.c_float),
        ("beam", ctypes.c_float),
        ("max_active", ctypes.c_int32),
        ("blank_skip", ctypes.c_float),
    )


class _Word(ctypes.Structure):
    _fields_ = (
        ("word", ctypes.c_int32),
        ("start_frame", ctypes.c_int32),
        ("end_frame", ctypes.c_int32),
        ("confidence", ctypes.c_float),
    )


@lru_cache(maxsize=8)
def _bind(path: Path) -> ctypes.CDLL:
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    return bind(
        path,
        {
            "search_open": (pointer, (pointer, ctypes.c_uint64, text)),
            "search_close": (None, (pointer,)),
            "search_start": (pointer, (pointer, ctypes.POINTER(_Options), pointer, text)),
            "search_stop": (None, (pointer,)),
            "search_reset": (None, (pointer,)),
            "search_advance": (ctypes.c_int32, (pointer, pointer, ctypes.c_int64, text)),
            "search_best": (ctypes.c_int64, (pointer, ctypes.c_int32, ctypes.POINTER(ctypes.c_double), text)),
            "search_words": (ctypes.POINTER(_Word), (pointer,)),
        },
    )


class SearchGraph:
    """A graph opened for searching. Immutable: any number of ``SearchDecode`` may use it at once.

    Raises:
        SearchError: the bytes are no graph, are cut off, or of a format version that the library does not read.
        LibraryMissingError, LibraryMismatchError: the library cannot be used.
    """

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        """Open a graph file's bytes, normally memory-mapped; nothing is copied."""
        self._data = data
        self._library = _bind(library_path())
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle: int | None = self._library.deepthin_search_open(data.ctypes.data, data.nbytes, error)
        if self._handle is None:
            raise SearchError(error.value.decode())

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._library.deepthin_search_close(self._handle)


class SearchDecode:
    """The search of one utterance at a time; it belongs to one thread at a time."""

    def __init__(
        self, graph: SearchGraph, units: int, options: SearchOptions, log_priors: FloatArray | None = None
    ) -> None:
        """Start an utterance.

        Args:
            graph: what to search.
            units: acoustic units of the graph, blank included.
            options: weights and beams.
            log_priors: [units] natural logs, subtracted from the log probabilities.
        """
        self._graph = graph  # keeps it open
        self._library = graph._library
        self._units = units
        self._error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle: int | None = None
        priors = None if log_priors is None else np.ascontiguousarray(log_priors, dtype=np.float32)
        if priors is not None and priors.shape != (units,):
            raise SearchError(f"priors of shape {priors.shape}, expected ({units},)")
        self._handle = self._library.deepthin_search_start(
            graph._handle,
            _Options(
                options.acoustic_scale,
                options.lm_weight,
                options.word_score,
                options.beam,
                options.max_active,
                options.blank_skip,
            ),
            None if priors is None else priors.ctypes.data,
            self._error,
        )
        if self._handle is None:
            raise SearchError(self._error.value.decode())

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._library.deepthin_search_stop(self._handle)

    def reset(self) -> None:
        """Forget everything and start a new utterance."""
        self._library.deepthin_search_reset(self._handle)

    def advance(self, log_probs: FloatArray) -> None:
        """Search further frames, [frames, units] natural log probabilities.

        Raises:
            SearchError: the shape is wrong, or a value is above 0 or not a number.
        """
        if log_probs.ndim != 2 or log_probs.shape[1] != self._units:
            raise SearchError(f"log probabilities of shape {log_probs.shape}, expected [frames, {self._units}]")
        frames = np.ascontiguousarray(log_probs, dtype=np.float32)
        if self._library.deepthin_search_advance(self._handle, frames.ctypes.data, len(frames), self._error) != 0:
            raise SearchError(self._error.value.decode())

    def best(self, final: bool) -> tuple[list[FoundWord], float]:
        """Return the best words so far and their score.

        Args:
            final: the utterance ends here: only complete hypotheses count, sentence end included.
        """
        score = ctypes.c_double()
        count = self._library.deepthin_search_best(self._handle, int(final), ctypes.byref(score), self._error)
        if count < 0:
            raise SearchError(self._error.value.decode())
        words = self._library.deepthin_search_words(self._handle)
        found = [
            FoundWord(words[i].word, words[i].start_frame, words[i].end_frame, words[i].confidence)
            for i in range(count)
        ]
        return found, score.value
