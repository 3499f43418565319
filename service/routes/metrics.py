"""`GET /metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

from service.metrics import Metrics

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response, summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """Text format of Prometheus, or OpenMetrics for a scraper that asks for it."""
    instruments: Metrics = request.app.state.metrics
    # Not the client library's own negotiation: it fails on a version that is no number.
    if "application/openmetrics-text" in request.headers.get("accept", ""):
        text, content_type = openmetrics.generate_latest(instruments.registry), openmetrics.CONTENT_TYPE_LATEST
    else:
        text, content_type = exposition.generate_latest(instruments.registry), exposition.CONTENT_TYPE_PLAIN_0_0_4
    return Response(text, headers={"content-type": content_type})
