"""The form of `POST /compress`, written to disk part by part as it arrives."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.errors import (
    BodyTimeoutError,
    ClientGoneError,
    InvalidParameterError,
    InvalidRequestError,
    MissingFileError,
    NoSpaceError,
    TooLargeError,
    UnknownParameterError,
    UnsupportedCheckpointError,
)
from service.jobs.fields import CHECKPOINT, CONFIG, CORPORA, FIELDS, FILES, SPEC
from service.settings import Settings

_KINDS: Final = (".onnx", ".safetensors", ".zip")
_PICKLES: Final = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")
_LARGEST_SPEC = 1 << 18
_LARGEST_CONFIG = 1 << 20
_LARGEST_HEADER = 1 << 13
# Boundaries and headers of parts.
_OVERHEAD = 1 << 16
# Bytes written between looks at how full the disk is.
_LOOK_EVERY = 1 << 23


@dataclass(frozen=True, slots=True)
class Part:
    """One field of the form.

    Attributes:
        file: where its bytes are.
        filename: what the client calls it; empty when it does not say. Never part of a path.
        size: its bytes.
    """

    file: Path
    filename: str
    size: int


def field_limits(settings: Settings) -> dict[str, int]:
    """Most bytes of each field."""
    corpora = dict.fromkeys(CORPORA, settings.max_corpus_bytes)
    return {CHECKPOINT: settings.max_checkpoint_bytes, SPEC: _LARGEST_SPEC, CONFIG: _LARGEST_CONFIG, **corpora}


def body_limit(settings: Settings) -> int:
    """Most bytes of the whole form."""
    return sum(field_limits(settings).values()) + _OVERHEAD


async def receive_form(request: Request, folder: Path, settings: Settings) -> dict[str, Part]:
    """Write the fields of the form in `request` into `folder`.

    Raises:
        UnsupportedCheckpointError: it is no form.
        InvalidRequestError: a malformed form, an unknown field, or one that is there twice.
        MissingFileError: no checkpoint.
        UnsupportedCheckpointError: a checkpoint of an unknown kind.
        TooLargeError: a field is larger than it may be.
        NoSpaceError: the disk is too full.
        BodyTimeoutError, ClientGoneError: the form did not arrive.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type != b"multipart/form-data":
        raise UnsupportedCheckpointError(
            f"send multipart/form-data with the fields {', '.join(FIELDS)}, not {content_type.decode('latin-1')!r}"
        )
    if not options.get(b"boundary"):
        raise InvalidRequestError("the content type multipart/form-data names no boundary")
    announced = request.headers.get("content-length", "")
    require_space(folder, int(announced) if announced.isdecimal() else 0, settings.min_free_bytes)
    reader = _FormReader(options[b"boundary"], folder, field_limits(settings), settings.min_free_bytes)
    try:
        async with asyncio.timeout(settings.upload_timeout_seconds):
            async for chunk in request.stream():
                # Parsing and writing leave the event loop to transcriptions.
                await asyncio.to_thread(reader.feed, chunk)
        return reader.finish()
    except TimeoutError as error:
        raise BodyTimeoutError(f"the form did not arrive within {settings.upload_timeout_seconds:g} seconds") from error
    except ClientDisconnect as error:
        raise ClientGoneError("the client went away") from error
    except FormParserError as error:
        raise InvalidRequestError(f"the form is malformed: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space() from error
        raise
    finally:
        reader.close()


def require_space(folder: Path, size: int, min_free: int) -> None:
    """See that `size` bytes more leave `min_free` bytes free on the disk of `folder`.

    Raises:
        NoSpaceError: they would not.
    """
    if shutil.disk_usage(folder).free - size < min_free:
        raise _no_space()


class _FormReader:
    """Takes a form's bytes as they come. Not safe for two threads at once."""

    def __init__(self, boundary: bytes, folder: Path, limits: Mapping[str, int], min_free: int) -> None:
        self._folder = folder
        self._limits = limits
        self._min_free = min_free
        self._parts: dict[str, Part] = {}
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._field = ""
        self._filename = ""
        self._target: Path | None = None
        self._output: BinaryIO | None = None
        self._size = 0
        self._unseen = 0
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._on_header(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._on_header(1, data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._parser.write(data)

    def finish(self) -> dict[str, Part]:
        """The fields, after the last byte."""
        self._parser.finalize()
        if not self._complete:
            raise InvalidRequestError("the form ends before its last boundary")
        if CHECKPOINT not in self._parts:
            raise MissingFileError(
                "send a checkpoint, as an uploaded file in the form field 'checkpoint'", param=CHECKPOINT
            )
        if not self._parts[CHECKPOINT].size:
            raise MissingFileError("the uploaded checkpoint is empty", param=CHECKPOINT)
        return self._parts

    def close(self) -> None:
        """Close what is open."""
        if self._output is not None:
            self._output.close()
            self._output = None

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header(self, which: int, data: bytes) -> None:
        self._header[which].extend(data)
        if len(self._header[which]) > _LARGEST_HEADER:
            raise InvalidRequestError("a header in the form is too long")

    def _on_header_end(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._headers[name.lower()] = value
        self._header[0].clear()
        self._header[1].clear()
        if len(self._headers) > 16:
            raise InvalidRequestError("a part of the form has too many headers")

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._filename = options.get(b"filename", b"").decode("utf-8", "replace")
        if self._field not in FIELDS:
            raise UnknownParameterError(
                f"unknown form field {self._field[:80]!r}; known: {', '.join(FIELDS)}", param=self._field[:80] or None
            )
        if self._field in self._parts:
            raise InvalidParameterError(f"give {self._field!r} once", param=self._field)
        name = FILES.get(self._field) or f"{CHECKPOINT}{_kind(self._filename)}"
        self._target = self._folder / name
        self._output = self._target.open("wb")
        self._size = 0

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        assert self._output is not None
        self._size += end - start
        limit = self._limits[self._field]
        if self._size > limit:
            raise TooLargeError(f"{self._field!r} is larger than {limit} bytes", param=self._field)
        self._unseen += end - start
        if self._unseen > _LOOK_EVERY:
            self._unseen = 0
            require_space(self._folder, 0, self._min_free)
        self._output.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        assert self._target is not None
        self.close()
        self._parts[self._field] = Part(self._target, self._filename, self._size)

    def _on_end(self) -> None:
        self._complete = True


def _kind(filename: str) -> str:
    suffix = Path(filename.replace("\\", "/")).suffix.lower()
    if suffix in _KINDS:
        return suffix
    if not filename:
        raise MissingFileError("send the checkpoint as a file with a name, such as model.onnx", param=CHECKPOINT)
    advice = "pickles can run code and are never loaded; " if suffix in _PICKLES else ""
    raise UnsupportedCheckpointError(
        f"{suffix or 'a file without an ending'} is no checkpoint: {advice}send .onnx, .safetensors with a config, "
        "or .zip of a model package",
        param=CHECKPOINT,
    )


def _no_space() -> NoSpaceError:
    return NoSpaceError("there is not enough space on the disk of the service (DEEPTHIN_MIN_FREE_BYTES)")
