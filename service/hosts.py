"""Which names the service answers to: what keeps pages of the internet from passing for its own by a name of theirs.

A page can have its own name point at this machine ("DNS rebinding"); for the browser it is then the service's own page.
Nobody on the internet can have an address, a name without dots, or one under the endings that are kept for private
networks; any other name has to be allowed.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import UnknownHostError, error_response

ANY: Final = "*"
# RFC 6761, RFC 6762, RFC 8375, and ICANN's decision of 2024; no registry sells names under "lan" either.
_PRIVATE: Final = ("localhost", "local", "home.arpa", "internal", "lan")


class HostMiddleware:
    """Refuses requests for names that the service does not go by."""

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str]) -> None:
        """`allowed` are patterns of further names, such as `*.example.com`."""
        self._app = app
        self._allowed = (socket.gethostname().lower(), *(pattern.lower().rstrip(".") for pattern in allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and not self._answers_to(name := _name(Headers(scope=scope).get("host", ""))):
            error = UnknownHostError(f"this service does not go by the name {name[:80]!r} (DEEPTHIN_ALLOWED_HOSTS)")
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _answers_to(self, name: str) -> bool:
        return is_private(name) or any(fnmatchcase(name, pattern) for pattern in self._allowed)


def is_private(name: str) -> bool:
    """Whether nobody on the internet can have the host `name`; so it is when there is none."""
    if "." not in name or name.endswith(tuple(f".{ending}" for ending in _PRIVATE)):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    # An address of IPv6 stands in brackets, in which the port cannot be.
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")
