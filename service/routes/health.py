"""`GET /livez` and `GET /readyz`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.hub import Hub
from service.schemas import HealthAnswer

router = APIRouter(tags=["health"])


@router.get("/livez", response_model=HealthAnswer, response_model_exclude_none=True, summary="Is the process alive?")
async def livez() -> HealthAnswer:
    """Always 200 while the event loop turns."""
    return HealthAnswer(status="alive")


@router.get(
    "/readyz",
    response_model=HealthAnswer,
    response_model_exclude_none=True,
    responses={503: {"model": HealthAnswer, "description": "The default model cannot answer yet, or there is none."}},
    summary="Can it transcribe?",
)
async def readyz(request: Request, response: Response) -> HealthAnswer:
    """200 once the default model can answer; other models that load or fail make no difference."""
    hub: Hub = request.app.state.hub
    if hub.ready():
        return HealthAnswer(status="ready")
    response.status_code = 503
    if hub.default_name is None:
        return HealthAnswer(status="not ready", reason="there are no models")
    model = hub.get(hub.default_name)
    reason = f": {model.reason}" if model.reason else ""
    return HealthAnswer(status="not ready", reason=f"model {model.name} is {model.state}{reason}")
