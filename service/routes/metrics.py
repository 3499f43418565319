"""`GET /metrics`."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from service.metrics import Metrics

router = APIRouter(tags=["metrics"])

_OPENMETRICS: Final = "application/openmetrics-text"


@router.get("/metrics", response_class=Response, summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """Text format of Prometheus, or OpenMetrics for a scraper that asks for it."""
    instruments: Metrics = request.app.state.metrics
    # The header itself is not handed on: the library fails on a version in it that is no number.
    wanted = f"{_OPENMETRICS}; version=1.0.0" if _OPENMETRICS in request.headers.get("accept", "") else ""
    encode, content_type = choose_encoder(wanted)
    return Response(encode(instruments.registry), headers={"content-type": content_type})
