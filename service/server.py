"""uvicorn, taught to end streams of events when it is told to stop, and to log as we do."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from service.jobs.service import JobService
from service.settings import Settings


class Server(uvicorn.Server):
    """Would otherwise wait for the clients of endless answers to go away first."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        """Serve `app` where and as `settings` say."""
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                # Its records go where ours go; the middleware logs requests better.
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
            )
        )
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish requests, then the application."""
        jobs: JobService | None = getattr(self._app.state, "jobs", None)
        if jobs is not None:
            jobs.stopping.set()
        await super().shutdown(sockets)
