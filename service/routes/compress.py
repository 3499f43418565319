"""`POST /compress`."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from models.compression.spec import CompressionSpec
from service.jobs.fields import CHECKPOINT, CONFIG, CORPORA, SPEC
from service.jobs.service import JobService
from service.routes.parameters import flag, refuse_others
from service.schemas import ErrorAnswer, JobAnswer, MethodAnswer, OptionsAnswer
from service.security import require_key
from service.settings import Settings

if TYPE_CHECKING:
    from models.compression.base import Method

PATH: Final = "/compress"

# Inputs and outputs of a layer that is neither small nor large.
_TYPICAL: Final = 1024
_SMALL: Final = 64

router = APIRouter(tags=["compression"], dependencies=[Depends(require_key)])


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    # References into a schema of its own lead nowhere within the OpenAPI document.
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items() if key != "$defs"}
    return [_inlined(item, definitions) for item in schema] if isinstance(schema, list) else schema


_BINARY = {"type": "string", "format": "binary"}
_SPEC = CompressionSpec.model_json_schema()
_ERRORS = {
    400: "A file is missing or not what it claims to be, or a field of the spec is wrong; `param` names it.",
    401: "API key missing or wrong.",
    403: "The name is that of a model that came with DeepThin.",
    408: "The form took too long to arrive.",
    409: "There is a model of that name, or a job that makes one; or no more models may be hosted.",
    413: "A file is larger than allowed.",
    415: "Not a kind of checkpoint that can be compressed.",
    503: "As many jobs wait as may wait (see Retry-After), or jobs cannot be kept here.",
    507: "The disk is too full.",
}
_DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        {
            "name": "replace",
            "in": "query",
            "description": "Let the result take the place of a model of the same name, once it is accepted.",
            "schema": {"type": "boolean", "default": False},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [CHECKPOINT, SPEC],
                    "properties": {
                        CHECKPOINT: {
                            **_BINARY,
                            "description": ".onnx, .safetensors with a config, or .zip of a model package.",
                        },
                        SPEC: _inlined(_SPEC, _SPEC.get("$defs", {})),
                        CONFIG: {**_BINARY, "description": "TOML that describes a .safetensors checkpoint."},
                        **{
                            name: {
                                **_BINARY,
                                "description": f"Zip with manifest.tsv and recordings; the {name} corpus 'upload'.",
                            }
                            for name in CORPORA
                        },
                    },
                },
                "encoding": {SPEC: {"contentType": "application/json"}},
            }
        },
    },
}


@router.get(PATH, response_model=OptionsAnswer, summary="What a compression may be asked for here")
async def options(request: Request) -> OptionsAnswer:
    """The methods with their reach, the corpora that are installed, and the limits on uploads."""
    jobs: JobService = request.app.state.jobs
    settings: Settings = request.app.state.settings
    refuse_others(request, set())
    # What only compresses stays out of a service that only transcribes.
    methods, corpora = await asyncio.gather(asyncio.to_thread(_methods), asyncio.to_thread(jobs.corpora.names))
    return OptionsAnswer(
        methods=methods,
        corpora=list(corpora),
        fine_tuning=find_spec("torch") is not None,
        max_checkpoint_bytes=settings.max_checkpoint_bytes,
        max_corpus_bytes=settings.max_corpus_bytes,
    )


def _methods() -> list[MethodAnswer]:
    from models.compression.registry import METHODS

    answers = []
    for method in METHODS.values():
        smallest, largest = method.sizes(_TYPICAL, _TYPICAL)
        answers.append(
            MethodAnswer(
                name=method.name,
                summary=method.summary,
                smallest=smallest,
                largest=largest,
                ranked=_takes_rank(method),
            )
        )
    return answers


def _takes_rank(method: Method) -> bool:
    from models.compression.base import CompressionError

    _, largest = method.sizes(_SMALL, _SMALL)
    try:
        one, two = (method.plan(_SMALL, _SMALL, min(1.0, largest), rank=rank) for rank in (1, 2))
    except CompressionError:
        return False
    return one != two


@router.post(
    PATH,
    status_code=202,
    response_model=JobAnswer,
    responses={
        202: {"headers": {"Location": {"description": "Where the job is.", "schema": {"type": "string"}}}},
        **{status: {"model": ErrorAnswer, "description": text} for status, text in _ERRORS.items()},
    },
    openapi_extra=_DOCUMENTATION,
    summary="Compress a checkpoint, evaluate the result and host it",
)
async def compress(request: Request, response: Response) -> JobAnswer:
    """Accepts a job that goes on in a process of its own; `GET /jobs/{id}` and its events tell how far it is."""
    jobs: JobService = request.app.state.jobs
    refuse_others(request, {"replace"})
    job = await jobs.submit(request, replace=flag(request, "replace"))
    response.headers["Location"] = f"/jobs/{job.id}"
    return JobAnswer.of(job)
