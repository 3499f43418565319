"""The family moonshine: an encoder and a decoder that writes text with case and punctuation, token by token.

Moonshine: Speech Recognition for Live Transcription and Voice Commands (Jeffries et al., 2024), arXiv:2410.15608.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.audio import Audio
from models.errors import GraphMismatchError, InferenceError
from models.features import FrontEndError
from models.package import ModelPackage
from models.recognisers.base import GREEDY, StagedRecogniser, require_decoder
from models.recognisers.generation import CachedDecoder, Generated
from models.recognisers.sessions import open_session
from models.segments import cut, is_steady, long_enough
from models.tokenizer import TokenDecoder
from models.transcript import StageSeconds, Transcript

FloatArray = npt.NDArray[np.float32]
Pieces = list[FloatArray]
Texts = list[Generated]

_WAVEFORM: Final = "input_values"
# However short a piece is, this many tokens may be a word.
_LEAST_TOKENS: Final = 6


class MoonshineRecogniser(StagedRecogniser[Pieces, Texts]):
    """See `models.recognisers.base.Recogniser`; features are the pieces of the waveform in which something is said."""

    def __init__(
        self, package: ModelPackage, encoder: ort.InferenceSession, decoder: CachedDecoder, tokens: TokenDecoder
    ) -> None:
        """Put the parts together; most callers want `load`.

        Raises:
            GraphMismatchError: the encoder does not take a waveform.
        """
        super().__init__(package, (GREEDY,), GREEDY)
        settings = package.manifest.moonshine
        assert settings is not None
        self._settings = settings
        self._encoder, self._decoder, self._tokens = encoder, decoder, tokens
        if [value.name for value in encoder.get_inputs()] != [_WAVEFORM]:
            raise GraphMismatchError(f"the encoder of model {package.manifest.name} does not take {_WAVEFORM!r} alone")

    @classmethod
    def load(cls, package: ModelPackage, *, threads: int = 1, decoder: str | None = None) -> MoonshineRecogniser:
        """Load `package`; see `models.recognisers.load`."""
        manifest, settings = package.manifest, package.manifest.moonshine
        require_decoder((GREEDY,), decoder or GREEDY, manifest.name)
        assert settings is not None
        encoder = open_session(package.path / settings.encoder, threads=threads)
        # It unpacks its table of tokens with each of them, tens of megabytes: three times as fast where memory stays.
        merged = open_session(package.path / settings.decoder, threads=threads, arena=True)
        generator = CachedDecoder(merged, manifest.name, start=settings.start, end=settings.end)
        return cls(package, encoder, generator, TokenDecoder.load(package.path / settings.tokenizer))

    def features(self, audio: Audio) -> Pieces:
        """The waveform [samples] in pieces; none where it is silence or steady noise throughout.

        Raises:
            FrontEndError: the recording has another sample rate than the model.
        """
        rate = self.manifest.sample_rate
        if audio.sample_rate != rate:
            raise FrontEndError(f"audio at {audio.sample_rate} Hz given to a model for {rate} Hz")
        ranges = cut(audio.samples, rate, self._settings.longest_seconds)
        pieces = (audio.samples[first:last] for first, last in ranges)
        return [piece for piece in pieces if not is_steady(piece, rate)]

    def infer(self, features: Sequence[Pieces]) -> list[Texts]:
        """The tokens for each piece of each recording, one after the other: the network has no masks for a batch."""
        return [[self._text(piece) for piece in pieces] for pieces in features]

    def transcript(
        self, scores: Texts, seconds: float, *, decoder: str | None = None, stages: StageSeconds | None = None
    ) -> Transcript:
        """The text as the network wrote it; the network gives no times, so that there are no words."""
        self.require_decoder(decoder)
        stages = stages or StageSeconds()
        start = time.perf_counter()
        texts = [self._tokens.text(piece.tokens) for piece in scores]
        return Transcript(
            text=" ".join(text for text in texts if text),
            words=(),
            duration_seconds=seconds,
            stages=StageSeconds(stages.features, stages.infer, stages.postprocess + time.perf_counter() - start),
        )

    def _text(self, samples: FloatArray) -> Generated:
        rate = self.manifest.sample_rate
        padded = long_enough(samples, rate)
        [hidden] = self._encoder.run(None, {_WAVEFORM: padded[None]})
        if np.isnan(hidden).any():
            raise InferenceError(f"model {self.manifest.name} gave values that are not numbers")
        limit = _LEAST_TOKENS + math.ceil(self._settings.tokens_per_second * len(padded) / rate)
        return self._decoder.generate(hidden, limit)
