"""`GET /jobs` and everything below it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from service.errors import InvalidParameterError
from service.jobs.record import JobState
from service.jobs.service import JobService
from service.routes.parameters import parameter, refuse_others
from service.schemas import ErrorAnswer, JobAnswer, JobsAnswer
from service.security import require_key

router = APIRouter(tags=["jobs"], dependencies=[Depends(require_key)])

_MOST = 1000
_LARGEST_ID = 2**63 - 1
_LISTING: list[dict[str, Any]] = [
    {
        "name": "state",
        "in": "query",
        "description": "Only jobs in this state.",
        "schema": {"type": "string", "enum": [state.value for state in JobState]},
    },
    {
        "name": "limit",
        "in": "query",
        "description": "The newest so many.",
        "schema": {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 100},
    },
]


def _error(text: str) -> dict[str, Any]:
    return {"model": ErrorAnswer, "description": text}


@router.get(
    "/jobs",
    response_model=JobsAnswer,
    responses={400: _error("A parameter is unknown or wrong."), 503: _error("Jobs cannot be kept here.")},
    openapi_extra={"parameters": _LISTING},
    summary="List compression jobs",
)
async def list_jobs(request: Request) -> JobsAnswer:
    """The newest first."""
    jobs: JobService = request.app.state.jobs
    refuse_others(request, {"state", "limit"})
    found = await jobs.jobs(state=_state(request), limit=_limit(request))
    return JobsAnswer(jobs=[JobAnswer.of(job) for job in found])


@router.get(
    "/jobs/{id}",
    response_model=JobAnswer,
    responses={404: _error("No such job.")},
    summary="Describe one job",
)
async def show_job(request: Request, id: str) -> JobAnswer:
    """One job: its state, how far it is, and what was asked for."""
    jobs: JobService = request.app.state.jobs
    return JobAnswer.of(await jobs.get(id))


@router.delete(
    "/jobs/{id}",
    response_model=JobAnswer,
    responses={404: _error("No such job."), 409: _error("It has ended already, or its model is being hosted.")},
    summary="Cancel a job",
)
async def cancel_job(request: Request, id: str) -> JobAnswer:
    """Ends a job that waits or runs, within two seconds."""
    jobs: JobService = request.app.state.jobs
    return JobAnswer.of(await jobs.cancel(id))


@router.get(
    "/jobs/{id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "Events `progress` (stage, layer, percentage, message) and `state`; the last is the final "
            "state.",
        },
        204: {"description": "The job has ended, and the client has every event: do not connect again."},
        404: _error("No such job."),
        503: _error("Too many clients follow jobs; see `Retry-After`."),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "Id of the last event that the client has; the stream goes on behind it.",
                "schema": {"type": "integer"},
            }
        ]
    },
    summary="Follow a job",
)
async def follow_job(request: Request, id: str) -> Response:
    """Server-sent events, from the first or from behind `Last-Event-ID`, until the job has ended."""
    jobs: JobService = request.app.state.jobs
    return await jobs.follow(id, _last_event(request)) or Response(status_code=204)


@router.get(
    "/jobs/{id}/report",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/json": {}}, "description": "The report."},
        404: _error("No such job, or no report yet."),
    },
    summary="What a job did to every layer, and what became of accuracy and speed",
)
async def job_report(request: Request, id: str) -> FileResponse:
    """The report that the job wrote, as JSON."""
    jobs: JobService = request.app.state.jobs
    return FileResponse(await jobs.report(id), media_type="application/json")


def _state(request: Request) -> JobState | None:
    value = parameter(request, "state")
    try:
        return None if value is None else JobState(value)
    except ValueError as error:
        known = ", ".join(JobState)
        raise InvalidParameterError(f"there is no state {value!r}; states: {known}", param="state") from error


def _limit(request: Request) -> int:
    value = parameter(request, "limit") or "100"
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= _MOST):
        raise InvalidParameterError(f"'limit' is a number from 1 to {_MOST}", param="limit")
    return int(value)


def _last_event(request: Request) -> int:
    value = request.headers.get("last-event-id", "").strip() or "0"
    if not (value.isascii() and value.isdecimal() and len(value) <= 19 and int(value) <= _LARGEST_ID):
        raise InvalidParameterError("'Last-Event-ID' is the id of an event", param="Last-Event-ID")
    return int(value)
