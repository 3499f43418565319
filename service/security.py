"""API keys, off unless the settings name some."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from service.errors import UnauthorisedError
from service.settings import Settings


async def require_key(request: Request) -> None:
    """Let the request pass if it carries one of the configured keys, or if none are configured.

    Raises:
        UnauthorisedError: the key is missing or wrong.
    """
    settings: Settings = request.app.state.settings
    if not settings.api_keys:
        return
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    sent = key.strip().encode()
    # Every key is compared, each in constant time, so that the time taken tells nothing.
    matches = [hmac.compare_digest(sent, known.get_secret_value().encode()) for known in settings.api_keys]
    if scheme.lower() != "bearer" or not any(matches):
        raise UnauthorisedError(
            "send a valid API key as 'Authorization: Bearer KEY'", headers={"WWW-Authenticate": "Bearer"}
        )
