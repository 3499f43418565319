"""The family ctc: a network trained elsewhere with connectionist temporal classification, read greedily.

Connectionist temporal classification (Graves et al., ICML 2006).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.audio import Audio
from models.errors import GraphMismatchError, InferenceError
from models.family_settings import LogMel
from models.features import FrontEndError
from models.front_ends import extract
from models.package import ModelPackage
from models.recognisers.base import GREEDY, StagedRecogniser, require_decoder
from models.recognisers.sessions import open_session
from models.segments import cut, is_steady, long_enough
from models.transcript import StageSeconds, Transcript, Word
from models.vocabulary import Piece, Vocabulary

FloatArray = npt.NDArray[np.float32]

_FLOATS: Final = "tensor(float)"
_INTEGERS: Final = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a recording in which something is said.

    Attributes:
        start: seconds from the start of the recording.
        seconds: its length.
        values: what the network takes, or, once it has answered, log probabilities [output frames, tokens].
        frames: frames (samples, for a waveform) that went in.
    """

    start: float
    seconds: float
    values: FloatArray
    frames: int


class CtcRecogniser(StagedRecogniser[list[Segment], list[Segment]]):
    """See `models.recognisers.base.Recogniser`."""

    def __init__(self, package: ModelPackage, session: ort.InferenceSession, vocabulary: Vocabulary) -> None:
        """Put the parts together; most callers want `load`.

        Raises:
            GraphMismatchError: the network's inputs and outputs are not those of the manifest.
        """
        super().__init__(package, (GREEDY,), GREEDY)
        settings = package.manifest.ctc
        assert settings is not None
        self._settings = settings
        self._session, self._vocabulary = session, vocabulary
        name, inputs = package.manifest.name, session.get_inputs()
        floats = [value.name for value in inputs if value.type == _FLOATS]
        self._integers = {value.name: _INTEGERS[value.type] for value in inputs if value.type in _INTEGERS}
        self._audio = _only(name, "input of floats", floats, settings.audio_input)
        self._lengths = (
            _only(name, "input of integers", [*self._integers], settings.lengths_input)
            if self._integers or settings.lengths_input
            else None
        )
        if {value.name for value in inputs} != {self._audio, self._lengths} - {None}:
            raise GraphMismatchError(f"model {name} takes {sorted(value.name for value in inputs)}: more than audio")
        # One output for each frame and token; lengths have one axis, states more.
        outputs = [
            value.name for value in session.get_outputs() if value.type == _FLOATS and len(value.shape) in (0, 3)
        ]
        first = outputs[:1] if settings.output is None else outputs
        self._output = _only(name, "output [batch, frames, tokens]", first, settings.output)

    @classmethod
    def load(cls, package: ModelPackage, *, threads: int = 1, decoder: str | None = None) -> CtcRecogniser:
        """Load `package`; see `models.recognisers.load`."""
        settings = package.manifest.ctc
        require_decoder((GREEDY,), decoder or GREEDY, package.manifest.name)
        assert settings is not None
        vocabulary = Vocabulary.load(package.path / settings.tokens, settings)
        return cls(package, open_session(package.graph_file, threads=threads), vocabulary)

    def features(self, audio: Audio) -> list[Segment]:
        """What the network takes, by piece; none where the recording is silence or steady noise throughout.

        Raises:
            FrontEndError: the recording has another sample rate than the model.
        """
        rate, settings = self.manifest.sample_rate, self._settings
        if audio.sample_rate != rate:
            raise FrontEndError(f"audio at {audio.sample_rate} Hz given to a model for {rate} Hz")
        segments = []
        for first, last in cut(audio.samples, rate, settings.longest_seconds):
            samples = audio.samples[first:last]
            if not is_steady(samples, rate):
                values, frames = extract(settings.front_end, long_enough(samples, rate), rate)
                segments.append(Segment(first / rate, len(samples) / rate, values, frames))
        return segments

    def infer(self, features: Sequence[list[Segment]]) -> list[list[Segment]]:
        """Log probabilities for each piece, one after the other: what a network does with padding is its own affair.

        Raises:
            InferenceError: the network gave NaN, or failed.
            GraphMismatchError: its answer is not [batch, frames, tokens].
        """
        return [[self._answer(segment) for segment in segments] for segments in features]

    def transcript(
        self, scores: list[Segment], seconds: float, *, decoder: str | None = None, stages: StageSeconds | None = None
    ) -> Transcript:
        """The best token of each frame, repeats and blanks dropped, as words with times."""
        self.require_decoder(decoder)
        stages = stages or StageSeconds()
        start = time.perf_counter()
        words = tuple(word for segment in scores for word in self._words(segment, seconds))
        return Transcript(
            text=" ".join(word.text for word in words),
            words=words,
            duration_seconds=seconds,
            stages=StageSeconds(stages.features, stages.infer, stages.postprocess + time.perf_counter() - start),
        )

    def _answer(self, segment: Segment) -> Segment:
        name = self.manifest.name
        feeds = {self._audio: segment.values[None]}
        if self._lengths is not None:
            feeds[self._lengths] = np.array([segment.frames], self._integers[self._lengths])
        try:
            [answer] = self._session.run([self._output], feeds)
        except Exception as error:  # ONNX Runtime's exceptions share no base class.
            raise InferenceError(f"model {name} cannot take {segment.seconds:.2f} seconds of audio: {error}") from error
        scores = np.asarray(answer[0], np.float32)
        if scores.ndim != 2 or scores.shape[1] != len(self._vocabulary.tokens):
            tokens = len(self._vocabulary.tokens)
            raise GraphMismatchError(f"model {name} gives {list(scores.shape)} for a recording, not [frames, {tokens}]")
        if np.isnan(scores).any():
            raise InferenceError(f"model {name} gave values that are not numbers")
        # Leaves log probabilities as they are, and makes them of logits.
        highest = scores.max(axis=1, keepdims=True)
        scores = scores - highest - np.log(np.exp(scores - highest).sum(axis=1, keepdims=True))
        return Segment(segment.start, segment.seconds, scores, segment.frames)

    def _words(self, segment: Segment, seconds: float) -> list[Word]:
        step = self._frame_seconds(segment)
        return [
            Word(
                text=text,
                start=round(min(segment.start + pieces[0].first * step, seconds), 3),
                end=round(min(segment.start + (pieces[-1].last + 1) * step, seconds), 3),
                confidence=float(
                    np.exp(
                        sum(piece.log_prob for piece in pieces) / sum(piece.last - piece.first + 1 for piece in pieces)
                    )
                ),
            )
            for text, pieces in self._vocabulary.words(_collapsed(segment.values, self._vocabulary.blank))
        ]

    def _frame_seconds(self, segment: Segment) -> float:
        front_end, subsampling = self._settings.front_end, self.manifest.subsampling
        if isinstance(front_end, LogMel):
            return front_end.frame_shift_ms / 1000 * subsampling
        if subsampling > 1:
            return subsampling / self.manifest.sample_rate
        return segment.seconds / max(1, len(segment.values))


def _collapsed(log_probs: FloatArray, blank: int) -> list[Piece]:
    if not len(log_probs):
        return []
    best, values = log_probs.argmax(axis=1), log_probs.max(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]]))
    ends = np.concatenate([starts[1:], [len(best)]])
    return [
        Piece(int(best[start]), int(start), int(end) - 1, float(values[start:end].sum()))
        for start, end in zip(starts, ends, strict=True)
        if best[start] != blank
    ]


def _only(model: str, what: str, found: Sequence[str], wanted: str | None) -> str:
    if wanted is not None and wanted in found:
        return wanted
    if wanted is not None or len(found) != 1:
        named = f" called {wanted!r}" if wanted else ""
        raise GraphMismatchError(f"model {model} has no one {what}{named}; it has {sorted(found) or 'none'}")
    return found[0]
