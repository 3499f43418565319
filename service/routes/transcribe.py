"""`POST /transcribe`."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Request

from models.store import DEFAULT_ALIAS
from service.routes import audio
from service.routes.parameters import parameter, refuse_others
from service.schemas import TranscriptAnswer
from service.security import require_key
from service.transcription import Transcriber
from service.uploads import uploaded_audio

router = APIRouter(tags=["transcription"])

_DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        {
            "name": "model",
            "in": "query",
            "description": "A name of GET /models.",
            "schema": {"type": "string", "default": DEFAULT_ALIAS},
        },
        audio.DECODER,
    ],
    "requestBody": audio.BODY,
}


@router.post(
    "/transcribe",
    dependencies=[Depends(require_key)],
    response_model=TranscriptAnswer,
    responses=audio.ERRORS,
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
    timeout = request.app.state.settings.body_timeout_seconds
    with transcriber.admit() as place:
        async with uploaded_audio(request, timeout=timeout) as source:
            work = asyncio.create_task(transcriber.transcribe(source, model, decoder, place))
            return TranscriptAnswer.of(await audio.unless_gone(request, work))
