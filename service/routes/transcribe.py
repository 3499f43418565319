"""`POST /transcribe`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request

from models.recogniser import DECODERS
from models.store import DEFAULT_ALIAS
from service.errors import ClientGoneError
from service.middleware import client_gone
from service.routes.parameters import parameter, refuse_others
from service.schemas import ErrorAnswer, TranscriptAnswer
from service.security import require_key
from service.transcription import Transcriber, Transcription
from service.uploads import uploaded_audio

router = APIRouter(tags=["transcription"])

_ERRORS = {
    400: "Unknown or bad parameter, or no recording in the request.",
    401: "API key missing or wrong.",
    404: "No such model.",
    408: "The body took too long to arrive.",
    413: "Too many bytes or too many seconds.",
    415: "Not audio that can be decoded.",
    422: "Audio without anything in it.",
    503: "The queue is full, or the model is not ready; see Retry-After.",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        {
            "name": "model",
            "in": "query",
            "description": "A name of GET /models.",
            "schema": {"type": "string", "default": DEFAULT_ALIAS},
        },
        {
            "name": "decoder",
            "in": "query",
            "description": "'graph': words with a language model. 'greedy': raw units, here phones; light and literal.",
            "schema": {"type": "string", "enum": list(DECODERS)},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "audio/*": _BINARY,
            "application/octet-stream": _BINARY,
        },
    },
}


@router.post(
    "/transcribe",
    dependencies=[Depends(require_key)],
    response_model=TranscriptAnswer,
    responses={status: {"model": ErrorAnswer, "description": text} for status, text in _ERRORS.items()},
    openapi_extra=_DOCUMENTATION,
    summary="Turn a recording into text",
)
async def transcribe(request: Request) -> TranscriptAnswer:
    """Anything that FFmpeg decodes (wav, flac, mp3, ogg, opus, webm, m4a ...), any rate, any number of channels."""
    transcriber: Transcriber = request.app.state.transcriber
    model = parameter(request, "model") or DEFAULT_ALIAS
    decoder = parameter(request, "decoder")
    refuse_others(request, {"model", "decoder"})
    transcriber.check(model, decoder)
    async with uploaded_audio(request, timeout=request.app.state.settings.body_timeout_seconds) as source:
        work = asyncio.create_task(transcriber.transcribe(source, model, decoder))
        return TranscriptAnswer.of(await _unless_gone(request, work))


async def _unless_gone(request: Request, work: asyncio.Task[Transcription]) -> Transcription:
    gone = asyncio.create_task(client_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        request.app.state.metrics.shed.labels("client_gone").inc()
        raise ClientGoneError("the client went away")
    finally:
        work.cancel()
        gone.cancel()
        # The recording must stay open until nothing reads it any more.
        await asyncio.gather(work, gone, return_exceptions=True)
