"""A hosted model: its state, why it is in it, and who uses it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from models.package import Manifest, ModelPackage
from models.recognisers import Recogniser

# Family of a network without front end or decoder.
NETWORK: Final = "network"


class ModelState(StrEnum):
    """Where a model is in its life; the last two are never loaded, and are here for download.

    One that is unloaded has made room for others and is loaded again when it is asked for.
    """

    LOADING = "loading"
    UNLOADED = "unloaded"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"
    STORED = "stored"
    QUARANTINED = "quarantined"


@dataclass(eq=False, slots=True)
class HostedModel:
    """One model that clients can name.

    Attributes:
        name: its name.
        state: whether it can answer.
        reason: why it is not ready; empty when it is.
        package: what is on disk, or None when the package could not be read.
        recogniser: the loaded model while the state is ready or unloading.
        load_seconds: seconds that loading took.
        references: requests that use it now.
        last_used: when the last of them began, as a number that grows.
        loading: the task that loads it because it was asked for.
    """

    name: str
    state: ModelState = ModelState.LOADING
    reason: str = ""
    package: ModelPackage | None = None
    recogniser: Recogniser | None = None
    load_seconds: float = 0.0
    references: int = 0
    last_used: int = 0
    loading: asyncio.Task[None] | None = None
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def held(self) -> bool:
        """Whether the model is here for download alone."""
        return self.state in (ModelState.STORED, ModelState.QUARANTINED)

    @property
    def manifest(self) -> Manifest | None:
        """What the package says, or None when it could not be read."""
        return None if self.package is None else self.package.manifest

    def fail(self, reason: str) -> None:
        """Mark the model as unusable, for `reason`."""
        self.state, self.reason = ModelState.FAILED, reason


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to use a loaded model until the lease is given back.

    Attributes:
        name: the model's real name.
        recogniser: the model.
    """

    name: str
    recogniser: Recogniser
