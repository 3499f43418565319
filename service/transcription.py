"""One recording through all stages: decode, features, queue, infer, postprocess."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from models.audio import Audio, decode
from models.differences import Edit, differences
from models.package import Manifest
from models.recognisers import Recogniser
from models.transcript import StageSeconds, Transcript
from service.admission import Place
from service.hosted import Lease
from service.hub import Hub
from service.length import likely_seconds
from service.logs import note
from service.metrics import Metrics
from service.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Transcription:
    """The answer to one request.

    Attributes:
        manifest: the model that answered.
        decoder: name of the decoder that was used.
        transcript: the text.
        processing_seconds: from acceptance to the text, waiting included.
        decode_seconds: of these, what turning the file into samples took.
    """

    manifest: Manifest
    decoder: str
    transcript: Transcript
    processing_seconds: float
    decode_seconds: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of work, waiting not counted, by second of audio; 0 for an empty recording."""
        audio = self.transcript.duration_seconds
        return (self.decode_seconds + self.transcript.stages.total) / audio if audio > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Compared:
    """One model's part of a comparison.

    Attributes:
        transcription: what the model answered.
        edits: its words against those of the reference model.
    """

    transcription: Transcription
    edits: tuple[Edit, ...]


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
            UnknownModelError, ModelNotReadyError, DecoderUnavailableError: as `transcribe`.
        """
        recogniser = self._hub.require_usable(model).recogniser
        if recogniser is not None:
            recogniser.require_decoder(decoder)

    def admit(self) -> AbstractContextManager[Place]:
        """Hold a place in the queue for a request; to be called before its body is read.

        Raises:
            OverloadedError: the queue is full, or the service is shutting down.
        """
        return self._scheduler.admit()

    async def transcribe(self, source: BinaryIO, model: str, decoder: str | None, place: Place) -> Transcription:
        """Transcribe the audio in `source` with the hosted model `model`, in `place`.

        Raises:
            UnknownModelError, ModelNotReadyError: the model cannot be used.
            DecoderUnavailableError: the model has no such decoder.
            OverloadedError: `place` was lost during the upload, and the queue is full.
            AudioError: `source` is not usable audio.
        """
        accepted = time.perf_counter()
        place.arrived()
        async with self._hub.lease(model) as lease:
            chosen = lease.recogniser.require_decoder(decoder)
            note(model=lease.name)
            place.expect(self._work((lease.recogniser,), likely_seconds(source)))
            audio, decode_seconds = await self._decode(source, lease.recogniser.manifest.sample_rate)
            place.expect(self._work((lease.recogniser,), audio.seconds))
            return await self._recognise(lease, chosen, audio, accepted, decode_seconds, place)

    async def compare(
        self, source: BinaryIO, models: Sequence[str], decoder: str | None, reference: str, place: Place
    ) -> list[Compared]:
        """Transcribe the audio in `source` with each of `models` in turn, so that none slows another down.

        The recording is decoded once for each sample rate; every answer counts that time as its own. Each model is held
        only while it answers, so that they need not all fit into memory; the whole takes one place in the queue.

        Args:
            source: the recording.
            models: names of hosted models, no aliases among them.
            decoder: name of a decoder that all of them have, or None for each one's own.
            reference: the one of `models` that the words of all are compared with.
            place: where the whole waits.

        Raises:
            UnknownModelError, ModelNotReadyError, DecoderUnavailableError, OverloadedError, AudioError: as
                `transcribe`.
        """
        answers: dict[str, Transcription] = {}
        decoded: dict[int, tuple[Audio, float]] = {}
        note(model=",".join(models))
        place.arrived()
        left = [self._hub.get(name).recogniser for name in models]
        place.expect(self._work(left, likely_seconds(source)))
        for name in models:
            async with self._hub.lease(name) as lease:
                chosen = lease.recogniser.require_decoder(decoder)
                rate = lease.recogniser.manifest.sample_rate
                if rate not in decoded:
                    source.seek(0)
                    decoded[rate] = await self._decode(source, rate)
                audio, decode_seconds = decoded[rate]
                place.expect(self._work(left, audio.seconds))
                accepted = time.perf_counter() - decode_seconds
                answers[name] = await self._recognise(lease, chosen, audio, accepted, decode_seconds, place)
                del left[0]
        wanted = answers[reference].transcript.text
        edits = [(await self._scheduler.run(differences, wanted, answers[name].transcript.text))[0] for name in models]
        return [Compared(answers[name], words) for name, words in zip(models, edits, strict=True)]

    async def _decode(self, source: BinaryIO, sample_rate: int) -> tuple[Audio, float]:
        return await self._scheduler.run(decode, source, sample_rate=sample_rate, max_seconds=self._max_seconds)

    def _work(self, models: Sequence[Recogniser | None], audio_seconds: float) -> float:
        return sum(self._scheduler.speeds.expected_work(model, audio_seconds) for model in models)

    async def _recognise(
        self, lease: Lease, decoder: str, audio: Audio, accepted: float, decode_seconds: float, place: Place
    ) -> Transcription:
        recogniser = lease.recogniser
        manifest = recogniser.manifest
        features, feature_seconds = await self._scheduler.run(recogniser.features, audio)
        shared = recogniser.lane(features)
        # One that goes alone gets a lane of its own.
        lane = (lease.name, id(recogniser), object() if shared is None else shared)
        answer = await self._scheduler.submit(lane, features, recogniser.infer)
        if answer.first:
            self._metrics.batch_size.labels(manifest.name, manifest.method).observe(answer.batch_size)
        stages = StageSeconds(features=feature_seconds, infer=answer.work_seconds)
        transcript, _ = await self._scheduler.run(
            recogniser.transcript, answer.value, audio.seconds, decoder=decoder, stages=stages
        )
        # Of the time of the batch, the others in it bear their shares.
        infer_seconds = answer.work_seconds / answer.batch_size
        work = decode_seconds + feature_seconds + infer_seconds + transcript.stages.postprocess
        place.done(recogniser, audio.seconds, work)
        total = time.perf_counter() - accepted
        note(audio_seconds=audio.seconds, queue_seconds=total - decode_seconds - transcript.stages.total)
        self._metrics.observe_transcription(
            manifest,
            audio=audio.seconds,
            decode=decode_seconds,
            queue=answer.queue_seconds,
            stages=transcript.stages,
            total=total,
        )
        return Transcription(manifest, decoder, transcript, total, decode_seconds)
