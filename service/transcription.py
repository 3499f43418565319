"""One recording through all stages: decode, features, queue, infer, postprocess."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import BinaryIO

from models.audio import decode
from models.package import Manifest
from models.transcript import StageSeconds, Transcript
from service.hub import Hub
from service.metrics import Metrics
from service.scheduler import Scheduler

# Recordings in one lane differ in length by less than this factor, so that little of a batch is padding.
_LANE_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Transcription:
    """The answer to one request.

    Attributes:
        manifest: the model that answered.
        decoder: name of the decoder that was used.
        transcript: the text.
        processing_seconds: from acceptance to the text, waiting included.
    """

    manifest: Manifest
    decoder: str
    transcript: Transcript
    processing_seconds: float


class Transcriber:
    """Runs recordings through hosted models on the scheduler's threads."""

    def __init__(self, hub: Hub, scheduler: Scheduler, metrics: Metrics, *, max_seconds: float) -> None:
        """Recordings longer than `max_seconds` are refused."""
        self._hub = hub
        self._scheduler = scheduler
        self._metrics = metrics
        self._max_seconds = max_seconds

    def check(self, model: str, decoder: str | None) -> None:
        """Refuse a request that cannot succeed, before its body is read.

        Raises:
            UnknownModelError, ModelNotReadyError, DecoderUnavailableError, OverloadedError: as `transcribe`.
        """
        recogniser = self._hub.require_ready(model).recogniser
        assert recogniser is not None
        recogniser.require_decoder(decoder)
        self._scheduler.require_room()

    async def transcribe(self, source: BinaryIO, model: str, decoder: str | None) -> Transcription:
        """Transcribe the audio in `source` with the hosted model `model`.

        Raises:
            UnknownModelError, ModelNotReadyError: the model cannot be used.
            DecoderUnavailableError: the model has no such decoder.
            OverloadedError: the queue is full.
            AudioError: `source` is not usable audio.
        """
        accepted = time.perf_counter()
        with self._scheduler.admit(), self._hub.lease(model) as lease:
            recogniser = lease.recogniser
            manifest = recogniser.manifest
            chosen = recogniser.require_decoder(decoder)
            audio, decode_seconds = await self._scheduler.run(
                decode, source, sample_rate=manifest.sample_rate, max_seconds=self._max_seconds
            )
            features, feature_seconds = await self._scheduler.run(recogniser.features, audio)
            lane = (lease.name, id(recogniser), _length_class(len(features)))
            answer = await self._scheduler.submit(lane, features, recogniser.log_probs)
            if answer.first:
                self._metrics.batch_size.labels(manifest.name, manifest.method).observe(answer.batch_size)
            stages = StageSeconds(features=feature_seconds, infer=answer.work_seconds)
            transcript, _ = await self._scheduler.run(
                recogniser.transcript, answer.value, audio.seconds, decoder=chosen, stages=stages
            )
            total = time.perf_counter() - accepted
            self._metrics.observe_transcription(
                manifest,
                audio=audio.seconds,
                decode=decode_seconds,
                queue=answer.queue_seconds,
                stages=transcript.stages,
                total=total,
            )
        return Transcription(manifest, chosen, transcript, total)


def _length_class(frames: int) -> int:
    return math.ceil(math.log(max(frames, 1), _LANE_RATIO))
