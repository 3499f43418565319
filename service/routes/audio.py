"""What the routes that take a recording share."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from fastapi import Request

from models.recognisers import DECODERS
from service.errors import ClientGoneError
from service.middleware import client_gone
from service.schemas import ErrorAnswer

T = TypeVar("T")

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "Unknown or bad parameter, or no recording in the request.",
        401: "API key missing or wrong.",
        404: "No such model.",
        408: "The body took too long to arrive.",
        413: "Too many bytes or too many seconds.",
        415: "Not audio that can be decoded.",
        422: "Audio without anything in it.",
        503: "The queue is full, or the model is not ready; see Retry-After.",
    }.items()
}
DECODER: Final = {
    "name": "decoder",
    "in": "query",
    "description": "'graph': words with a language model. 'greedy': raw units, here phones; light and literal.",
    "schema": {"type": "string", "enum": list(DECODERS)},
}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary", "description": "The recording."}},
            }
        },
        "audio/*": _BINARY,
        "application/octet-stream": _BINARY,
    },
}


async def unless_gone(request: Request, work: asyncio.Task[T]) -> T:
    """The result of `work`, which is cancelled when the client closes the connection before.

    Raises:
        ClientGoneError: it did.
    """
    gone = asyncio.create_task(client_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        request.app.state.metrics.shed.labels("client_gone").inc()
        raise ClientGoneError("the client went away")
    finally:
        work.cancel()
        gone.cancel()
        # The recording must stay open until nothing reads it any more.
        await asyncio.gather(work, gone, return_exceptions=True)
