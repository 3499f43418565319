"""Pure ASGI middleware: request ids, metrics and a line of log for each request, errors, the limit on bodies."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import OverloadedError, TooLargeError, as_service_error, error_response
from service.logs import request_log
from service.metrics import UNMATCHED_ROUTE, Metrics
from service.scheduler import Scheduler

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"

_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ROUTINE: Final = frozenset({"/livez", "/readyz", "/metrics"})
_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMiddleware:
    """Gives each request an id (the client's, if it is harmless), measures and logs it, and turns errors into a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = sent if _USABLE_ID.fullmatch(sent) else uuid.uuid4().hex
        exchange = _Exchange(request_id)
        self._metrics.in_progress.inc()
        with request_log(request_id) as notes:
            try:
                await self._app(scope, exchange.receiving(receive), exchange.sending(send))
            except Exception as error:
                logger.exception("request failed", extra={"path": scope["path"]})
                if not exchange.status:
                    await error_response(as_service_error(error))(scope, receive, exchange.sending(send))
            finally:
                self._metrics.in_progress.dec()
                self._finish(scope, exchange, notes)

    def _finish(self, scope: Scope, exchange: _Exchange, notes: Mapping[str, Any]) -> None:
        seconds = time.perf_counter() - exchange.start
        route = getattr(scope.get("route"), "path", UNMATCHED_ROUTE)
        verb = scope["method"] if scope["method"] in _VERBS else "other"
        self._metrics.requests.labels(route, verb, str(exchange.status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        fields = {
            "route": route,
            "verb": verb,
            "status": exchange.status,
            "seconds": seconds,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            **notes,
        }
        # Probes and scrapes come every few seconds, and tell something only when they fail.
        routine = route in _ROUTINE and exchange.status == 200
        logger.log(logging.DEBUG if routine else logging.INFO, "request", extra=fields)


class _Exchange:
    """What went over the connection for one request."""

    def __init__(self, request_id: str) -> None:
        self.start = time.perf_counter()
        self.status = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._request_id = request_id

    def receiving(self, receive: Receive) -> Receive:
        """`receive`, counted."""

        async def counted() -> Message:
            message = await receive()
            self.bytes_in += len(message.get("body", b""))
            return message

        return counted

    def sending(self, send: Send) -> Send:
        """`send`, counted, with the request's id in the head."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = self._request_id
            self.bytes_out += len(message.get("body", b""))
            await send(message)

        return counted


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """The largest body that a route takes.

    Attributes:
        max_bytes: the limit.
        settings: which settings make it, for the message.
        param: the parameter that is usually too large.
    """

    max_bytes: int
    settings: str = "DEEPTHIN_MAX_BYTES"
    param: str = "file"

    def error(self) -> TooLargeError:
        """What a client is told."""
        return TooLargeError(f"the request is larger than {self.max_bytes} bytes ({self.settings})", param=self.param)


class BodyLimitMiddleware:
    """Stops reading a body as soon as it is larger than the limit, whether or not its length was announced."""

    def __init__(self, app: ASGIApp, limit: BodyLimit, by_path: Mapping[str, BodyLimit]) -> None:
        """`by_path` has the paths with a limit other than `limit`."""
        self._app = app
        self._limit = limit
        self._by_path = dict(by_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._by_path.get(scope["path"], self._limit)
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > limit.max_bytes:
            await error_response(limit.error())(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit.max_bytes:
                raise limit.error()
            return message

        await self._app(scope, limited, send)


class RoomMiddleware:
    """Refuses recordings for which there is no room, before their routes cost anything: under overload, most of them.

    Whoever passes may still be refused by the route, when many come at the same moment.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        """`routes` take recordings."""
        self._app = app
        self._routes = {route.path: route for route in routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._routes:
            scheduler: Scheduler = scope["app"].state.scheduler
            try:
                scheduler.come()
            except OverloadedError as error:
                # Where the router would have written it; metrics and logs read it there.
                scope["route"] = self._routes[scope["path"]]
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def client_gone(request: Request) -> None:
    """Return when the client has closed the connection; call it only after the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
