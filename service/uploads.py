"""The recording in a request: a multipart field `file`, or the raw body."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request

from service.errors import (
    BodyTimeoutError,
    ClientGoneError,
    MissingFileError,
    UnknownParameterError,
    UnsupportedMediaError,
)

FIELD = "file"

# What clients send for "some bytes"; the last is what curl sends when it is not told.
_UNSPECIFIC = frozenset({"", "application/octet-stream", "application/ogg", "application/x-www-form-urlencoded"})
_IN_MEMORY = 1 << 20
_LARGEST_TEXT_FIELD = 1 << 16


@asynccontextmanager
async def uploaded_audio(request: Request, *, timeout: float) -> AsyncIterator[BinaryIO]:
    """The recording in the body of `request`, held in memory while small and in a temporary file while large.

    Raises:
        MissingFileError: no recording in the body.
        UnknownParameterError: another form field beside it.
        UnsupportedMediaError: the content type is of something else than audio.
        BodyTimeoutError: the body took longer than `timeout` seconds.
        ClientGoneError: the client went away before the end of its body.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if content_type == "multipart/form-data":
            async with asyncio.timeout(timeout):
                form = await request.form(max_files=1, max_fields=4, max_part_size=_LARGEST_TEXT_FIELD)
            try:
                yield _only_file(form)
            finally:
                await form.close()
        elif content_type in _UNSPECIFIC or content_type.startswith(("audio/", "video/")):
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
                async with asyncio.timeout(timeout):
                    async for chunk in request.stream():
                        file.write(chunk)
                if not file.tell():
                    raise MissingFileError("the request has no body: send a recording")
                file.seek(0)
                yield cast(BinaryIO, file)
        else:
            raise UnsupportedMediaError(
                f"content type {content_type!r} is not audio: send multipart/form-data with a field 'file', "
                "or a raw body with an audio content type"
            )
    except TimeoutError as error:
        raise BodyTimeoutError(f"the body did not arrive within {timeout:g} seconds") from error
    except ClientDisconnect as error:
        raise ClientGoneError("the client went away") from error


def _only_file(form: FormData) -> BinaryIO:
    for name in form:
        if name != FIELD:
            raise UnknownParameterError(
                f"unknown form field {name!r}: only 'file' is known, other parameters go into the query", param=name
            )
    values = form.getlist(FIELD)
    if len(values) != 1 or not isinstance(values[0], UploadFile):
        raise MissingFileError("send exactly one recording, as an uploaded file in the form field 'file'")
    if not values[0].size:
        raise MissingFileError("the uploaded file is empty")
    return values[0].file
