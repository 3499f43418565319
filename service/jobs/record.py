"""What is known of one job."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

ID_PATTERN: Final = r"[0-9a-f]{16}"


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"

    @property
    def final(self) -> bool:
        """Whether the job stays in this state for good."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """One compression job.

    Attributes:
        id: sixteen hexadecimal digits; also the name of the job's folder.
        model: name of the model that it makes.
        method: compression method asked for, "budget" when the job is to choose, "mixed" when only rules name any.
        state: where it is.
        spec: the wish, as JSON values.
        replace: whether a model of that name may be replaced.
        created: when it was accepted, in seconds since 1970; likewise the next two.
        started: when its worker first started, or None.
        finished: when it ended, or None.
        stage: stage of the pipeline it is at, or None before the first.
        layer: layer that the stage is at, or None.
        fraction: share of the whole job that is done, 0 to 1.
        message: what the pipeline last said.
        reason: why it failed, was cancelled or was quarantined; empty otherwise.
        hosted: whether the model that it made was hosted.
        deaths: how often in a row its worker died from outside without finishing a stage.
        restarts: how often its worker was started again.
        cancelling: whether it was asked to stop.
        outcome: what the pipeline gave back ("accepted" and "reasons"), or None before its end.
    """

    id: str
    model: str
    method: str
    state: JobState
    spec: dict[str, Any]
    replace: bool
    created: float
    started: float | None = None
    finished: float | None = None
    stage: str | None = None
    layer: str | None = None
    fraction: float = 0.0
    message: str = ""
    reason: str = ""
    hosted: bool = False
    deaths: int = 0
    restarts: int = 0
    cancelling: bool = False
    outcome: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job.

    Attributes:
        id: grows with time, over all jobs.
        time: seconds since 1970.
        kind: "progress" or "state".
        data: JSON values: stage, layer, fraction and message, or state and reason.
    """

    id: int
    time: float
    kind: str
    data: dict[str, Any]


def new_id() -> str:
    """An id that nobody can guess."""
    return secrets.token_hex(8)
