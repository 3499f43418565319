"""`GET /models` and what can be done to a model."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from ops.errors import DeepThinError
from service.downloads import StreamPacker, package_zip
from service.errors import InvalidParameterError, NotFoundError, NoTransportError
from service.hosted import HostedModel
from service.hub import Hub
from service.keeper import TRANSPORT_FILE, ModelKeeper
from service.routes.parameters import flag, parameter, refuse_others
from service.schemas import ErrorAnswer, ModelAnswer, ModelsAnswer
from service.security import require_key

router = APIRouter(tags=["models"], dependencies=[Depends(require_key)])

_PACKAGE, _TRANSPORT = "package", "transport"
_BINARY = "application/octet-stream"


def _error(text: str) -> dict[str, Any]:
    return {"model": ErrorAnswer, "description": text}


def _answer(request: Request, model: HostedModel) -> ModelAnswer:
    keeper: ModelKeeper = request.app.state.keeper
    return ModelAnswer.of(model, request.app.state.hub, removable=keeper.removable(model))


@router.get("/models", response_model=ModelsAnswer, summary="List the models")
async def list_models(request: Request) -> ModelsAnswer:
    """All models, the default first: those that failed to load and those that are kept for download included."""
    hub: Hub = request.app.state.hub
    return ModelsAnswer(default=hub.default_name, models=[_answer(request, model) for model in hub.models()])


@router.get(
    "/models/{name}",
    response_model=ModelAnswer,
    responses={404: _error("No such model.")},
    summary="Describe one model",
)
async def show_model(request: Request, name: str) -> ModelAnswer:
    """One model; `default` is the default."""
    hub: Hub = request.app.state.hub
    return _answer(request, hub.get(name))


@router.delete(
    "/models/{name}",
    status_code=204,
    responses={
        403: _error("It came with DeepThin."),
        404: _error("No such model."),
        409: _error("It is the default, or is being deleted already."),
    },
    summary="Delete a model",
)
async def delete_model(request: Request, name: str) -> Response:
    """Takes a model away for good, once the requests that use it have ended."""
    keeper: ModelKeeper = request.app.state.keeper
    await keeper.delete(name)
    return Response(status_code=204)


@router.get(
    "/models/{name}/download",
    response_class=Response,
    responses={
        200: {
            "content": {"application/zip": {}, "application/octet-stream": {}},
            "description": "The package as a zip file, or the transport stream.",
        },
        400: _error("A parameter is unknown or wrong."),
        404: _error("No such model, or its package is broken."),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "format",
                "in": "query",
                "description": "'package': zip of what serves. 'transport': one entropy-coded stream, smaller.",
                "schema": {"type": "string", "enum": [_PACKAGE, _TRANSPORT], "default": _PACKAGE},
            }
        ]
    },
    summary="Download a model",
)
async def download_model(request: Request, name: str) -> Response:
    """Any model that is listed, those that are quarantined included."""
    hub: Hub = request.app.state.hub
    refuse_others(request, {"format"})
    wanted = parameter(request, "format") or _PACKAGE
    if wanted not in (_PACKAGE, _TRANSPORT):
        raise InvalidParameterError(f"'format' is {_PACKAGE} or {_TRANSPORT}, not {wanted[:40]!r}", param="format")
    model = hub.get(name)
    package = model.package
    if package is None:
        raise NotFoundError(f"the package of model {model.name} cannot be read: {model.reason}", param="model")
    if wanted == _PACKAGE:
        headers = {"Content-Disposition": f'attachment; filename="{model.name}.zip"'}
        return StreamingResponse(package_zip(package), media_type="application/zip", headers=headers)
    file = package.path / TRANSPORT_FILE
    if file.is_file():
        return FileResponse(file, media_type=_BINARY, filename=f"{model.name}.dtz")
    packer: StreamPacker = request.app.state.packer
    try:
        stream = await packer.stream(package)
    except DeepThinError as error:
        raise NoTransportError(f"model {model.name} cannot be packed: {error}", param="model") from error
    headers = {"Content-Disposition": f'attachment; filename="{model.name}.dtz"'}
    return Response(stream, media_type=_BINARY, headers=headers)


@router.post(
    "/models/{name}/promote",
    response_model=ModelAnswer,
    responses={
        400: _error("The model cannot transcribe."),
        404: _error("No such model."),
        409: _error("It is quarantined, or no more models may be hosted."),
        503: _error("The model is not ready."),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "accept_quarantined",
                "in": "query",
                "description": "Host the model although the gate did not accept it.",
                "schema": {"type": "boolean", "default": False},
            }
        ]
    },
    summary="Make a model the default",
)
async def promote_model(request: Request, name: str) -> ModelAnswer:
    """The alias `default` means this model from now on, restarts included; one that is not hosted is hosted first."""
    keeper: ModelKeeper = request.app.state.keeper
    refuse_others(request, {"accept_quarantined"})
    return _answer(request, await keeper.promote(name, accept_quarantined=flag(request, "accept_quarantined")))


@router.post(
    "/models/default/rollback",
    response_model=ModelAnswer,
    responses={409: _error("There is no earlier default."), 503: _error("It is still loading.")},
    summary="Make the previous default the default again",
)
async def roll_back(request: Request) -> ModelAnswer:
    """Undoes the last promotion; again for the one before it."""
    keeper: ModelKeeper = request.app.state.keeper
    return _answer(request, await keeper.roll_back())
