"""The FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from models.recogniser import Recogniser
from models.store import ModelStore
from ops import library
from service import errors
from service.hub import Hub
from service.metrics import Metrics
from service.middleware import BodyLimitMiddleware, RequestMiddleware
from service.routes import health, metrics, models, transcribe
from service.scheduler import Scheduler
from service.settings import Settings
from service.transcription import Transcriber


def create_app(settings: Settings | None = None, registry: CollectorRegistry | None = None) -> FastAPI:
    """An application with its own models, queue and metrics.

    Args:
        settings: without them, those of the environment.
        registry: where the metrics are registered; without it, a new one.

    Raises:
        LibraryMissingError, LibraryMismatchError: the operator library cannot be used, so that no model could.
    """
    settings = settings or Settings()
    instruments = Metrics(registry or CollectorRegistry(), instruction_set=library.instruction_set())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scheduler = Scheduler(
            instruments,
            threads=settings.threads,
            batch_size=settings.batch_size,
            batch_wait=settings.batch_wait_seconds,
            capacity=settings.queue_length,
            retry_after=settings.retry_after_seconds,
        )
        hub = Hub(
            ModelStore(settings.model_folders),
            instruments,
            wanted=settings.models,
            max_models=settings.max_models,
            load=partial(Recogniser.load, threads=settings.session_threads),
        )
        app.state.hub = hub
        app.state.scheduler = scheduler
        app.state.transcriber = Transcriber(hub, scheduler, instruments, max_seconds=settings.max_seconds)
        async with hub.running():
            yield
            await scheduler.close(settings.drain_seconds)

    app = FastAPI(
        title="DeepThin",
        summary="Speech recognition with compressed models.",
        version=version("deepthin"),
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.metrics = instruments
    errors.install(app)
    for routes in (transcribe, models, health, metrics):
        app.include_router(routes.router)
    # Added last, runs first: it must see every answer, that of the body limit included.
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_bytes)
    app.add_middleware(RequestMiddleware, metrics=instruments)
    return app
