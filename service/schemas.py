"""Shapes of the JSON answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from models.differences import Edit, EditKind
from service.hosted import HostedModel
from service.hub import Hub
from service.jobs.record import Job, JobState
from service.metrics import wer_delta
from service.transcription import Compared, Transcription


class WordAnswer(BaseModel):
    """One word of a transcript."""

    text: str
    start: float = Field(description="Seconds from the start of the recording.")
    end: float = Field(description="Seconds from the start of the recording.")
    confidence: float = Field(description="Between 0 and 1.")


class TranscriptAnswer(BaseModel):
    """Answer of `POST /transcribe`."""

    text: str = Field(description="The words, in lower case where the model knows but one; empty for none.")
    words: list[WordAnswer] = Field(description="The same words with times; empty where the model gives no times.")
    model: str = Field(description="Name of the model that answered.")
    method: str = Field(description="Its compression method.")
    decoder: str = Field(description="'graph': words of a search; 'greedy': what the network says, phones or text.")
    duration_seconds: float = Field(description="Length of the recording.")
    processing_seconds: float = Field(description="Time from acceptance to the answer, waiting included.")
    real_time_factor: float = Field(description="Seconds of work, waiting not counted, by second of audio.")

    @classmethod
    def of(cls, transcription: Transcription) -> TranscriptAnswer:
        """The answer for `transcription`."""
        transcript = transcription.transcript
        return cls(
            text=transcript.text,
            words=[
                WordAnswer(text=word.text, start=word.start, end=word.end, confidence=round(word.confidence, 4))
                for word in transcript.words
            ],
            model=transcription.manifest.name,
            method=transcription.manifest.method,
            decoder=transcription.decoder,
            duration_seconds=round(transcript.duration_seconds, 4),
            processing_seconds=round(transcription.processing_seconds, 6),
            real_time_factor=round(transcription.real_time_factor, 6),
        )


class EditAnswer(BaseModel):
    """One place of an alignment of words."""

    kind: EditKind = Field(description="What became of the word of the reference.")
    reference: str | None = Field(description="The word of the reference; null where one was inserted.")
    hypothesis: str | None = Field(description="The word in its place; null where it was deleted.")


class DifferencesAnswer(BaseModel):
    """Words of one model against those of the reference; case and punctuation make no difference."""

    substituted: int
    deleted: int
    inserted: int
    ratio: float | None = Field(description="These by the words of the reference; null where it has none.")
    edits: list[EditAnswer] = Field(description="Every word of both, in order.")

    @classmethod
    def of(cls, edits: Sequence[Edit]) -> DifferencesAnswer:
        """The answer for `edits`."""
        counts = Counter(edit.kind for edit in edits)
        words = len(edits) - counts[EditKind.INSERTED]
        return cls(
            substituted=counts[EditKind.SUBSTITUTED],
            deleted=counts[EditKind.DELETED],
            inserted=counts[EditKind.INSERTED],
            ratio=round((len(edits) - counts[EditKind.SAME]) / words, 4) if words else None,
            edits=[EditAnswer(kind=edit.kind, reference=edit.reference, hypothesis=edit.hypothesis) for edit in edits],
        )


class ComparedAnswer(TranscriptAnswer):
    """What one model made of the recording, and what it costs."""

    disk_bytes: int = Field(description="Weights as stored, worked out from their shapes.")
    resident_bytes: int = Field(description="Weights in memory, worked out from their shapes.")
    transport_bytes: int | None = Field(
        description="The whole model as a stream; null where its manifest does not say."
    )
    differences: DifferencesAnswer = Field(description="Against the words of the reference model.")


class ComparisonAnswer(BaseModel):
    """Answer of `POST /compare`."""

    reference: str = Field(description="Name of the model that the words of all are compared with.")
    duration_seconds: float = Field(description="Length of the recording.")
    answers: list[ComparedAnswer] = Field(description="One for each model, in the order in which they were named.")

    @classmethod
    def of(cls, reference: str, compared: Sequence[Compared]) -> ComparisonAnswer:
        """The answer for `compared`."""
        answers = []
        for each in compared:
            weights = each.transcription.manifest.weights
            answers.append(
                ComparedAnswer(
                    **TranscriptAnswer.of(each.transcription).model_dump(),
                    disk_bytes=weights.disk_bytes,
                    resident_bytes=weights.resident_bytes,
                    transport_bytes=weights.transport_bytes,
                    differences=DifferencesAnswer.of(each.edits),
                )
            )
        return cls(reference=reference, duration_seconds=answers[0].duration_seconds, answers=answers)


class ModelAnswer(BaseModel):
    """One model of `GET /models`; fields are null while its package cannot be read."""

    name: str
    state: str = Field(
        description="loading, ready, unloaded (until it is asked for), failed or unloading; stored or quarantined: for "
        "download alone, never loaded."
    )
    reason: str | None = Field(description="Why the model is not ready.")
    default: bool = Field(description="Whether the alias 'default' means this model.")
    removable: bool = Field(
        description="Whether it can be deleted: it did not come with DeepThin, nor is it the default."
    )
    description: str | None = None
    family: str | None = None
    method: str | None = Field(default=None, description="Compression method; 'dense' for none.")
    relative_size: float | None = Field(
        default=None, description="Stored size of the weight matrices by their dense size."
    )
    parameters: int | None = None
    disk_bytes: int | None = Field(default=None, description="Weights as stored, worked out from their shapes.")
    transport_bytes: int | None = Field(
        default=None, description="The whole model as a transport stream; null where its manifest does not say."
    )
    resident_bytes: int | None = Field(default=None, description="Weights in memory, worked out from their shapes.")
    wer: dict[str, float] | None = Field(default=None, description="Word error rate by corpus, as a ratio.")
    wer_delta: dict[str, float] | None = Field(
        default=None, description="Word error rate minus the parent's, where both are known."
    )
    parent: str | None = Field(default=None, description="The dense model it was made from.")
    graph: str | None = Field(default=None, description="Its decoding graph; null for greedy decoding only.")
    graph_bytes: int | None = Field(
        default=None, description="Its decoding graph on disk and mapped into memory; models may share one."
    )
    load_seconds: float | None = None
    licence: str | None = None
    attribution: str | None = None

    @classmethod
    def of(cls, model: HostedModel, hub: Hub, *, removable: bool) -> ModelAnswer:
        """The answer for `model` of `hub`."""
        answer = cls(
            name=model.name,
            state=model.state,
            reason=model.reason or None,
            default=model.name == hub.default_name,
            removable=removable,
        )
        manifest = model.manifest
        if manifest is None:
            return answer
        parent = hub.parent_of(manifest)
        return answer.model_copy(
            update={
                "description": manifest.description,
                "family": manifest.family,
                "method": manifest.method,
                "relative_size": manifest.relative_size,
                "parameters": manifest.weights.parameters,
                "disk_bytes": manifest.weights.disk_bytes,
                "transport_bytes": manifest.weights.transport_bytes,
                "resident_bytes": manifest.weights.resident_bytes,
                "wer": {corpus: quality.wer for corpus, quality in manifest.quality.items()},
                "wer_delta": wer_delta(manifest, parent) if parent is not None else None,
                "parent": manifest.parent,
                "graph": manifest.graph,
                "graph_bytes": model.recogniser.graph_bytes or None if model.recogniser is not None else None,
                "load_seconds": round(model.load_seconds, 3) if model.recogniser is not None else None,
                "licence": manifest.licence,
                "attribution": manifest.attribution,
            }
        )


class ModelsAnswer(BaseModel):
    """Answer of `GET /models`."""

    default: str | None = Field(description="The model that the alias 'default' means.")
    models: list[ModelAnswer]


class MethodAnswer(BaseModel):
    """One compression method."""

    name: str
    summary: str
    smallest: float = Field(description="Least relative size of a weight of 1024 x 1024; others differ a little.")
    largest: float = Field(description="Largest relative size; where both are about the same, no size need be given.")
    ranked: bool = Field(description="Whether it takes a rank beside the size.")


class OptionsAnswer(BaseModel):
    """Answer of `GET /compress`."""

    methods: list[MethodAnswer]
    corpora: list[str] = Field(description="Names that calibration and evaluation may have, besides 'upload'.")
    fine_tuning: bool = Field(description="Whether results can be fine-tuned here, for which PyTorch is needed.")
    max_checkpoint_bytes: int
    max_corpus_bytes: int


class JobAnswer(BaseModel):
    """One compression job."""

    id: str
    state: JobState
    reason: str | None = Field(description="Why it failed, was cancelled or was quarantined.")
    model: str = Field(description="Name of the model that it makes.")
    method: str = Field(description="A compression method, 'budget' or 'mixed'.")
    hosted: bool = Field(description="Whether the model was hosted when the job ended.")
    stage: str | None = Field(description="Stage it is at, or was at when it ended.")
    layer: str | None = Field(description="Layer that the stage is at.")
    percentage: float = Field(description="Share of the job that is done.")
    message: str | None = Field(description="What was last said about its progress.")
    created: datetime
    started: datetime | None
    finished: datetime | None
    restarts: int = Field(description="How often its worker had to be started again.")
    cancelling: bool = Field(description="Whether it was asked to stop.")
    spec: dict[str, Any] = Field(description="What was asked for, with every default filled in.")

    @classmethod
    def of(cls, job: Job) -> JobAnswer:
        """The answer for `job`."""
        return cls(
            id=job.id,
            state=job.state,
            reason=job.reason or None,
            model=job.model,
            method=job.method,
            hosted=job.hosted,
            stage=job.stage,
            layer=job.layer,
            percentage=round(100 * job.fraction, 1),
            message=job.message or None,
            created=datetime.fromtimestamp(job.created, UTC),
            started=None if job.started is None else datetime.fromtimestamp(job.started, UTC),
            finished=None if job.finished is None else datetime.fromtimestamp(job.finished, UTC),
            restarts=job.restarts,
            cancelling=job.cancelling and not job.state.final,
            spec=job.spec,
        )


class JobsAnswer(BaseModel):
    """Answer of `GET /jobs`."""

    jobs: list[JobAnswer]


class HealthAnswer(BaseModel):
    """Answer of the health probes."""

    status: str
    reason: str | None = None


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """Every error has this shape, which is OpenAI's."""

    error: ErrorDetail
