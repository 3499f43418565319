"""`GET /models` and `GET /models/{name}`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from service.hub import Hub
from service.schemas import ErrorAnswer, ModelAnswer, ModelsAnswer
from service.security import require_key

router = APIRouter(tags=["models"], dependencies=[Depends(require_key)])


@router.get("/models", response_model=ModelsAnswer, summary="List the hosted models")
async def list_models(request: Request) -> ModelsAnswer:
    """All hosted models, the default first, those that failed to load included."""
    hub: Hub = request.app.state.hub
    return ModelsAnswer(default=hub.default_name, models=[ModelAnswer.of(model, hub) for model in hub.models()])


@router.get(
    "/models/{name}",
    response_model=ModelAnswer,
    responses={404: {"model": ErrorAnswer, "description": "No such model."}},
    summary="Describe one hosted model",
)
async def show_model(request: Request, name: str) -> ModelAnswer:
    """One hosted model; `default` is the default."""
    hub: Hub = request.app.state.hub
    return ModelAnswer.of(hub.get(name), hub)
