"""A running application and a client that speaks to it without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.hosted import ModelState
from service.settings import Settings
from tests.service.jobs import INSPECTOR, WORKER

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
Compress = Serve


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the machine that runs the tests must not change them."""
    import os

    for name in os.environ:
        if name.startswith("DEEPTHIN_") and name not in ("DEEPTHIN_DATA", "DEEPTHIN_OPS_LIBRARY", "DEEPTHIN_OPS_ISA"):
            monkeypatch.delenv(name)


@asynccontextmanager
async def running(app: FastAPI, *, wait: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app` between its start and its shutdown; `wait` for all models to be loaded or failed."""
    async with app.router.lifespan_context(app):
        if wait:
            async with asyncio.timeout(120):
                while any(model.state is ModelState.LOADING for model in app.state.hub.models()):
                    await asyncio.sleep(0.01)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120) as client:
            yield client


@pytest.fixture
def settings(home: Path) -> Callable[..., Settings]:
    """Settings for the tiny models, changed by keyword."""

    def make(**changes: Any) -> Settings:
        return Settings(
            **{
                "home": home,
                "models": ("tiny-dense", "tiny-thin", "tiny-recurrent"),
                "threads": 2,
                "self_check": False,
                # Only the tests of admission want to be refused, however slow this machine is.
                "queue_wait_seconds": 60,
                **changes,
            }
        )

    return make


@pytest.fixture
def serve(settings: Callable[..., Settings]) -> Serve:
    """Start an application with changed settings: `async with serve(batch_size=1) as client`."""

    @asynccontextmanager
    async def start(*, wait: bool = True, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with running(create_app(settings(**changes)), wait=wait) as client:
            yield client

    return start


@pytest.fixture
def compress(settings: Callable[..., Settings]) -> Compress:
    """Start an application whose compression jobs have the fake pipeline."""

    @asynccontextmanager
    async def start(inspector: Sequence[str] = INSPECTOR, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        changes = {"models": ("tiny-dense",), "min_free_bytes": 0, "job_nice": 0, "job_idle": False, **changes}
        async with running(create_app(settings(**changes), worker=WORKER, inspector=inspector)) as client:
            yield client

    return start


@pytest.fixture
async def client(serve: Serve, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with the tiny models loaded."""
    async with serve() as client:
        yield client


def app_of(client: httpx.AsyncClient) -> FastAPI:
    """The application behind `client`."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    assert isinstance(transport.app, FastAPI)
    return transport.app


def assert_error(response: httpx.Response, status: int, *, code: str, param: str | None = None) -> str:
    """Check the one error shape; the message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code
    assert body["error"]["param"] == param
    assert body["error"]["type"] in ("invalid_request_error", "authentication_error", "server_error")
    message = body["error"]["message"]
    assert isinstance(message, str)
    assert message
    return message
