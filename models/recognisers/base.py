"""What every family of recognisers offers: three stages that a service can run, batch and time one by one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from models.audio import Audio
from models.errors import DecoderUnavailableError
from models.package import Manifest, ModelPackage
from models.transcript import StageSeconds, Transcript

GRAPH = "graph"
GREEDY = "greedy"
DECODERS = (GRAPH, GREEDY)

Features = TypeVar("Features")
Scores = TypeVar("Scores")


class Recogniser(Protocol):
    """One model ready to transcribe; any number of threads may use it at once.

    What `features` and `infer` give belongs to the family: callers hand it on to the next stage and look no closer.

    Attributes:
        package: where it was loaded from.
        decoders: names of its decoders; "greedy" is always there.
        default_decoder: name of the one used when the caller names none.
    """

    package: ModelPackage
    default_decoder: str

    @property
    def decoders(self) -> Collection[str]:
        """Names of the decoders."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What the package says about the model."""
        ...

    @property
    def graph_bytes(self) -> int:
        """Bytes of the decoding graph's file, which is mapped into memory as it is; 0 without a graph."""
        ...

    def require_decoder(self, name: str | None) -> str:
        """The name of the decoder that `name` (None: the default) stands for.

        Raises:
            DecoderUnavailableError: the model has no such decoder.
        """
        ...

    def features(self, audio: Audio) -> Any:
        """First stage: what the network takes, from one recording.

        Raises:
            FrontEndError: the recording has another sample rate than the model.
        """
        ...

    def lane(self, features: Any) -> Hashable | None:
        """Recordings whose features have the same lane may share a batch; None: this one goes alone."""
        ...

    def infer(self, features: Sequence[Any]) -> Sequence[Any]:
        """Second stage: the network's answer for each recording of a batch, the same that it would get alone.

        Raises:
            InferenceError: the network gave NaN.
        """
        ...

    def transcript(
        self, scores: Any, seconds: float, *, decoder: str | None = None, stages: StageSeconds | None = None
    ) -> Transcript:
        """Third stage: the text of a recording of `seconds`; adds its own time to `stages`."""
        ...

    def transcribe(self, audios: Sequence[Audio], *, decoder: str | None = None) -> list[Transcript]:
        """All stages for a batch of recordings; each gets the answer that it would get alone.

        Raises:
            DecoderUnavailableError: the model has no such decoder.
            FrontEndError: a recording has another sample rate than the model.
        """
        ...


class StagedRecogniser(ABC, Generic[Features, Scores]):
    """What the families have in common; see `Recogniser`."""

    def __init__(self, package: ModelPackage, decoders: Collection[str], default_decoder: str) -> None:
        """`decoders` are the names of the decoders."""
        self.package = package
        self.default_decoder = default_decoder
        self._decoder_names = tuple(decoders)

    @property
    def decoders(self) -> Collection[str]:
        """Names of the decoders."""
        return self._decoder_names

    @property
    def manifest(self) -> Manifest:
        """What the package says about the model."""
        return self.package.manifest

    @property
    def graph_bytes(self) -> int:
        """Bytes of the decoding graph's file; 0 without a graph."""
        return 0

    def require_decoder(self, name: str | None) -> str:
        """The name of the decoder that `name` stands for; see `Recogniser`."""
        return require_decoder(self.decoders, name or self.default_decoder, self.manifest.name)

    def lane(self, features: Features) -> Hashable | None:
        """None: alone, unless a family says otherwise; see `Recogniser`."""
        return None

    @abstractmethod
    def features(self, audio: Audio) -> Features:
        """First stage; see `Recogniser`."""

    @abstractmethod
    def infer(self, features: Sequence[Features]) -> list[Scores]:
        """Second stage; see `Recogniser`."""

    @abstractmethod
    def transcript(
        self, scores: Scores, seconds: float, *, decoder: str | None = None, stages: StageSeconds | None = None
    ) -> Transcript:
        """Third stage; see `Recogniser`."""

    def transcribe(self, audios: Sequence[Audio], *, decoder: str | None = None) -> list[Transcript]:
        """All stages; see `Recogniser`."""
        self.require_decoder(decoder)
        features, feature_seconds = [], []
        for audio in audios:
            start = time.perf_counter()
            features.append(self.features(audio))
            feature_seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        batch = self.infer(features)
        infer = time.perf_counter() - start
        return [
            self.transcript(scores, audio.seconds, decoder=decoder, stages=StageSeconds(seconds, infer))
            for audio, scores, seconds in zip(audios, batch, feature_seconds, strict=True)
        ]


def require_decoder(decoders: Collection[str], name: str, model: str) -> str:
    """`name`, if it is among the `decoders` of `model`.

    Raises:
        DecoderUnavailableError: it is not.
    """
    if name not in decoders:
        if name not in DECODERS:
            raise DecoderUnavailableError(f"unknown decoder {name!r}: choose one of {', '.join(DECODERS)}")
        raise DecoderUnavailableError(f"model {model} has no decoder {name!r}, only {', '.join(sorted(decoders))}")
    return name
