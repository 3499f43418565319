"""Pure ASGI middleware: request ids, request metrics, the last resort for errors, and the limit on bodies."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import TooLargeError, as_service_error, error_response
from service.metrics import UNMATCHED_ROUTE, Metrics

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"

_USABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMiddleware:
    """Gives each request an id (the client's, if it is harmless), measures it, and turns what escaped into a 500."""

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
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        start = time.perf_counter()
        self._metrics.in_progress.inc()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            logger.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            if not status:
                await error_response(as_service_error(error))(scope, receive, send_with_id)
        finally:
            self._metrics.in_progress.dec()
            route = getattr(scope.get("route"), "path", UNMATCHED_ROUTE)
            verb = scope["method"] if scope["method"] in _VERBS else "other"
            self._metrics.requests.labels(route, verb, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - start)


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


async def client_gone(request: Request) -> None:
    """Return when the client has closed the connection; call it only after the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
