"""The FastAPI application."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from models.recognisers import load
from models.store import ModelStore
from ops import library
from service import errors
from service.admission import Admission
from service.browser import BrowserHeadersMiddleware, CrossSiteMiddleware
from service.downloads import StreamPacker
from service.hosts import ANY, HostMiddleware
from service.hub import Hub
from service.jobs.courtesy import Courtesy
from service.jobs.inspection import INSPECTOR
from service.jobs.service import JobService
from service.jobs.supervisor import WORKER
from service.jobs.uploads import body_limit
from service.keeper import ModelKeeper
from service.memory_budget import MemoryBudget
from service.metrics import Metrics
from service.middleware import BodyLimit, BodyLimitMiddleware, RequestMiddleware, RoomMiddleware
from service.parity import ParityWatch
from service.routes import compare, compress, health, jobs, metrics, models, page, transcribe
from service.scheduler import Scheduler
from service.settings import Settings, cores
from service.transcription import Transcriber


def create_app(
    settings: Settings | None = None,
    registry: CollectorRegistry | None = None,
    *,
    worker: Sequence[str] = WORKER,
    inspector: Sequence[str] = INSPECTOR,
) -> FastAPI:
    """An application with its own models, queue and metrics.

    Args:
        settings: without them, those of the environment.
        registry: where the metrics are registered; without it, a new one.
        worker: the command that does one compression job; the job's id is put behind it.
        inspector: the command that looks into an upload; its folder is put behind it.

    Raises:
        LibraryMissingError, LibraryMismatchError: the operator library cannot be used, so that no model could.
    """
    settings = settings or Settings()
    instruments = Metrics(registry or CollectorRegistry(), instruction_set=library.instruction_set())
    instruments.memory_budget.set(settings.memory_budget_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        courtesy = Courtesy(
            instruments,
            cores=cores(),
            job_threads=settings.job_threads,
            wanted=settings.job_idle and sys.platform == "linux",
        )
        scheduler = Scheduler(
            instruments,
            Admission(
                instruments,
                capacity=settings.queue_length,
                threads=settings.threads,
                wait_seconds=settings.queue_wait_seconds,
                burst=settings.queue_burst,
                retry_after=settings.retry_after_seconds,
            ),
            threads=settings.threads,
            batch_size=settings.batch_size,
            batch_wait=settings.batch_wait_seconds,
            on_busy=courtesy.busy,
        )
        store = ModelStore(settings.model_folders)
        hub = Hub(
            store,
            instruments,
            wanted=settings.models,
            max_models=settings.max_models,
            memory=MemoryBudget(settings.memory_budget_bytes),
            load=partial(load, threads=settings.session_threads),
        )
        keeper = ModelKeeper(settings.home / "models", store, hub)
        service = JobService(settings, hub, keeper, instruments, courtesy, worker=worker, inspector=inspector)
        app.state.hub = hub
        app.state.keeper = keeper
        app.state.jobs = service
        app.state.packer = StreamPacker()
        app.state.scheduler = scheduler
        app.state.transcriber = Transcriber(hub, scheduler, instruments, max_seconds=settings.max_seconds)
        instruments.ready.set_function(hub.ready)
        async with hub.running(), service.running(), ParityWatch(hub, instruments).running(wanted=settings.self_check):
            yield
            await scheduler.close(settings.drain_seconds)

    app = FastAPI(
        title="DeepThin",
        summary="Speech recognition with compressed models.",
        version=version("deepthin"),
        lifespan=lifespan,
        # FastAPI's own pages get their scripts from the internet; `service.routes.page` has one that does not.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = instruments
    errors.install(app)
    for routes in (transcribe, compare, compress, jobs, models, health, metrics, page):
        app.include_router(routes.router)
    app.add_middleware(RoomMiddleware, routes=(*transcribe.router.routes, *compare.router.routes))
    # Added last, runs first: it must see every answer, that of the body limit included.
    uploads = BodyLimit(
        body_limit(settings), "DEEPTHIN_MAX_CHECKPOINT_BYTES and DEEPTHIN_MAX_CORPUS_BYTES", param="checkpoint"
    )
    app.add_middleware(BodyLimitMiddleware, limit=BodyLimit(settings.max_bytes), by_path={compress.PATH: uploads})
    app.add_middleware(CrossSiteMiddleware)
    # A page of another name has no key to send.
    app.add_middleware(HostMiddleware, allowed=settings.allowed_hosts or ((ANY,) if settings.api_keys else ()))
    app.add_middleware(RequestMiddleware, metrics=instruments)
    app.add_middleware(BrowserHeadersMiddleware)
    return app
