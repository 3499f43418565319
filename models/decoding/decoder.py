"""Decoders: from log probabilities of units to words."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ops.search import NEVER, SearchDecode, SearchError, SearchGraph, SearchOptions

from . import graph_file
from .errors import DecodeError, GraphError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HypothesisWord:
    """A word and where it was said.

    Attributes:
        text: the word, upper case as in the corpora; for the greedy decoder a phone.
        start_frame: first output frame of the word.
        end_frame: last output frame of the word.
        confidence: geometric mean of the posteriors of the units along its frames of the best path, 0 to 1.
    """

    text: str
    start_frame: int
    end_frame: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The best words for an utterance.

    Attributes:
        words: in order; none for silence.
        score: natural log score of the best path, comparable only between hypotheses of the same frames and options.
    """

    words: tuple[HypothesisWord, ...]
    score: float

    @property
    def text(self) -> str:
        """The words joined by blanks."""
        return " ".join(word.text for word in self.words)


class Decoder(Protocol):
    """Turns unit log probabilities into a hypothesis; safe to call from many threads at once."""

    def decode(self, log_probs: FloatArray) -> Hypothesis:
        """Decode one utterance, [frames, units] natural log probabilities.

        Raises:
            DecodeError: the shape is not the decoder's, or a value is no log probability.
        """
        ...


class GreedyDecoder:
    """Best unit of each frame, repeats and blanks dropped: its "words" are phones. Needs no graph."""

    def __init__(self, units: Sequence[str]) -> None:
        """Name the output columns; the first is the blank."""
        self._units = tuple(units)

    def decode(self, log_probs: FloatArray) -> Hypothesis:
        """Decode one utterance; see ``Decoder``."""
        if log_probs.ndim != 2 or log_probs.shape[1] != len(self._units):
            raise DecodeError(f"log probabilities of shape {log_probs.shape}, expected [frames, {len(self._units)}]")
        if len(log_probs) == 0:
            return Hypothesis((), 0.0)
        best = log_probs.argmax(axis=1)
        values = log_probs.max(axis=1)
        starts = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]]))
        ends = np.concatenate([starts[1:], [len(best)]])
        words = tuple(
            HypothesisWord(self._units[best[start]], int(start), int(end) - 1, float(np.exp(values[start:end].mean())))
            for start, end in zip(starts, ends, strict=True)
            if best[start] != 0
        )
        return Hypothesis(words, float(values.sum()))


@dataclass(frozen=True)
class Graph:
    """A decoding graph read from a folder.

    Attributes:
        manifest: what the folder's ``manifest.json`` says.
        units: the acoustic units it was built for, blank first.
        search: the opened graph.
    """

    manifest: dict[str, Any]
    units: tuple[str, ...]
    search: SearchGraph
    _name_at: npt.NDArray[np.uint32]
    _names: npt.NDArray[np.uint8]

    @classmethod
    def load(cls, folder: Path | str) -> "Graph":
        """Map and check a graph folder.

        Raises:
            GraphError: a file is missing, truncated, corrupted or of another format version.
            LibraryMissingError, LibraryMismatchError: the compiled library cannot be used.
        """
        data, manifest = graph_file.read(Path(folder))
        try:
            search = SearchGraph(data)
        except SearchError as error:
            raise GraphError(f"{folder}: {error}") from error
        units = tuple(bytes(graph_file.section(data, "units")).decode().split("\n"))
        names = graph_file.section(data, "name")
        return cls(manifest, units, search, graph_file.unpack(graph_file.section(data, "name.at")), names)

    def word(self, number: int) -> str:
        """Return the spelling of word ``number``."""
        return bytes(self._names[self._name_at[number] : self._name_at[number + 1]]).decode()


class GraphDecoder:
    """Beam search of the best words of a graph. One graph in memory serves any number of threads."""

    def __init__(
        self,
        graph: Graph,
        units: Sequence[str],
        *,
        acoustic_scale: float = 1.0,
        lm_weight: float = 1.0,
        word_score: float = 0.0,
        beam: float = 16.0,
        max_active: int = 6000,
        blank_skip: float | None = None,
        log_priors: FloatArray | None = None,
    ) -> None:
        """Decode with ``graph``; the options are those of ``ops.search.SearchOptions``.

        Args:
            graph: a loaded graph.
            units: the acoustic model's output columns, blank first.
            acoustic_scale: factor of the units' log probabilities.
            lm_weight: factor of the words' natural log probabilities.
            word_score: added at each word.
            beam: hypotheses further than this below the best one are dropped.
            max_active: most hypotheses taken from one frame to the next.
            blank_skip: blank probability from which a frame is taken as blank without a search; None searches all.
            log_priors: [units] natural logs of the units' priors, subtracted from the log probabilities.

        Raises:
            DecodeError: the units are not the graph's, or an option makes no sense.
        """
        if tuple(units) != graph.units:
            raise DecodeError(f"the model's units {tuple(units)} are not the graph's {graph.units}")
        if beam <= 0 or max_active < 1 or acoustic_scale <= 0 or lm_weight < 0:
            raise DecodeError("beam, max_active and acoustic_scale must be positive, lm_weight not negative")
        if blank_skip is not None and not 0 < blank_skip <= 1:
            raise DecodeError(f"blank_skip is a probability, not {blank_skip}")
        if log_priors is not None and log_priors.shape != (len(graph.units),):
            raise DecodeError(f"priors of shape {log_priors.shape}, expected ({len(graph.units)},)")
        self.graph = graph
        self._options = SearchOptions(
            acoustic_scale,
            lm_weight,
            word_score,
            beam,
            max_active,
            NEVER if blank_skip is None else float(np.log(blank_skip)),
        )
        self._log_priors = log_priors
        self._idle: list[SearchDecode] = []
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path | str, units: Sequence[str], **options: Any) -> "GraphDecoder":
        """Load the graph in ``folder``; ``options`` are those of the constructor.

        Raises:
            GraphError: the graph is missing or broken.
            DecodeError: units or options do not fit.
        """
        return cls(Graph.load(folder), units, **options)

    def decode(self, log_probs: FloatArray) -> Hypothesis:
        """Decode one utterance; see ``Decoder``."""
        with self._lock:
            search = self._idle.pop() if self._idle else self._search()
        try:
            search.reset()
            search.advance(log_probs)
            hypothesis = self._hypothesis(search, final=True)
        except SearchError as error:
            raise DecodeError(str(error)) from error
        with self._lock:
            self._idle.append(search)
        return hypothesis

    def stream(self) -> "DecodeStream":
        """Return a decode that takes its frames piece by piece."""
        return DecodeStream(self)

    def _search(self) -> SearchDecode:
        return SearchDecode(self.graph.search, len(self.graph.units), self._options, self._log_priors)

    def _hypothesis(self, search: SearchDecode, final: bool) -> Hypothesis:
        found, score = search.best(final)
        words = tuple(
            HypothesisWord(self.graph.word(item.word), item.start_frame, item.end_frame, item.confidence)
            for item in found
        )
        return Hypothesis(words, score)


class DecodeStream:
    """One utterance decoded while it arrives; belongs to one thread at a time."""

    def __init__(self, decoder: GraphDecoder) -> None:
        self._decoder = decoder
        self._search = decoder._search()

    def advance(self, log_probs: FloatArray) -> None:
        """Take further frames, [frames, units].

        Raises:
            DecodeError: the shape or a value is wrong.
        """
        try:
            self._search.advance(log_probs)
        except SearchError as error:
            raise DecodeError(str(error)) from error

    def partial(self) -> Hypothesis:
        """Return the best words so far; later frames may change them."""
        return self._decoder._hypothesis(self._search, final=False)

    def finish(self) -> Hypothesis:
        """Return the best words of the whole utterance."""
        return self._decoder._hypothesis(self._search, final=True)
