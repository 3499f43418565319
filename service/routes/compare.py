"""`POST /compare`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request

from ops.errors import DeepThinError
from service.errors import InvalidParameterError, as_service_error
from service.hub import Hub
from service.routes import audio
from service.routes.parameters import parameter, refuse_others
from service.schemas import ComparisonAnswer
from service.security import require_key
from service.settings import Settings
from service.transcription import Transcriber
from service.uploads import uploaded_audio

router = APIRouter(tags=["transcription"])

_MODELS = "models"
_REFERENCE = "reference"
_DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        {
            "name": _MODELS,
            "in": "query",
            "required": True,
            "description": "Names of GET /models with commas between; DEEPTHIN_MAX_COMPARED at most.",
            "schema": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "style": "form",
            "explode": False,
        },
        {
            "name": _REFERENCE,
            "in": "query",
            "description": "The one of them that the words of all are compared with; the first, if it is not given.",
            "schema": {"type": "string"},
        },
        audio.DECODER,
    ],
    "requestBody": audio.BODY,
}


@router.post(
    "/compare",
    dependencies=[Depends(require_key)],
    response_model=ComparisonAnswer,
    responses=audio.ERRORS,
    openapi_extra=_DOCUMENTATION,
    summary="Turn one recording into text with several models, side by side",
)
async def compare(request: Request) -> ComparisonAnswer:
    """The models answer one after the other, so that none slows another down; the whole has one place in the queue."""
    transcriber: Transcriber = request.app.state.transcriber
    settings: Settings = request.app.state.settings
    refuse_others(request, {_MODELS, _REFERENCE, "decoder"})
    decoder = parameter(request, "decoder")
    models = _names(request, settings.max_compared)
    wanted = parameter(request, _REFERENCE)
    reference = models[0] if wanted is None else _real_name(request, wanted, _REFERENCE)
    if reference not in models:
        raise InvalidParameterError(f"{reference} is not among the models to compare", param=_REFERENCE)
    try:
        for model in models:
            transcriber.check(model, decoder)
    except DeepThinError as error:
        raise _about(error, _MODELS) from error
    with transcriber.admit() as place:
        async with uploaded_audio(request, timeout=settings.body_timeout_seconds) as source:
            work = asyncio.create_task(transcriber.compare(source, models, decoder, reference, place))
            return ComparisonAnswer.of(reference, await audio.unless_gone(request, work))


def _names(request: Request, most: int) -> Sequence[str]:
    text = parameter(request, _MODELS)
    if text is None:
        raise InvalidParameterError("name the models to compare, with commas between", param=_MODELS)
    names = text.split(",", most)
    if len(names) > most:
        raise InvalidParameterError(
            f"at most {most} models are compared at once (DEEPTHIN_MAX_COMPARED)", param=_MODELS
        )
    models = [_real_name(request, name.strip(), _MODELS) for name in names]
    if len(set(models)) < len(models):
        raise InvalidParameterError("a model is named twice", param=_MODELS)
    return models


def _real_name(request: Request, name: str, param: str) -> str:
    hub: Hub = request.app.state.hub
    try:
        return hub.get(name).name
    except DeepThinError as error:
        raise _about(error, param) from error


def _about(error: DeepThinError, param: str) -> Exception:
    # The checks of one model speak of the parameter that /transcribe has.
    answer = as_service_error(error)
    if answer.param == "model":
        answer.param = param
    return answer
