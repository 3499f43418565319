"""Logs: one JSON object a line for machines, or a plain line for people, each with the id of its request.

What is said or heard is never logged: neither audio nor transcripts.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

Format = Literal["auto", "json", "text"]

_request_id: ContextVar[str | None] = ContextVar("deepthin_request_id", default=None)
_notes: ContextVar[dict[str, Any] | None] = ContextVar("deepthin_notes", default=None)

# What every record has; the rest came with `extra`.
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


@contextmanager
def request_log(request_id: str) -> Iterator[Mapping[str, Any]]:
    """Mark what is logged within as belonging to the request `request_id`; yields what `note` collects meanwhile."""
    notes: dict[str, Any] = {}
    id_token, notes_token = _request_id.set(request_id), _notes.set(notes)
    try:
        yield notes
    finally:
        _request_id.reset(id_token)
        _notes.reset(notes_token)


def note(**fields: Any) -> None:
    """Add `fields` to the line of the request that is being answered; without one, nothing happens."""
    notes = _notes.get()
    if notes is not None:
        notes.update(fields)


def configure(level: str, format: Format) -> None:
    """Log to standard error from `level` on; "auto" is text on a terminal and JSON elsewhere."""
    if format == "auto":
        format = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Both log every request that they send or get at levels that are ours to use.
    for chatty in ("httpx", "httpcore", "multipart", "python_multipart"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, then its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A record as a line for people: local time, level, message, `name=value`; a traceback goes below."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        # Part of a message may come from a client: it must not be able to begin a line of its own.
        message = f"{record.getMessage()}{fields}".replace("\r", "\\r").replace("\n", "\\n")
        line = f"{time} {record.levelname.lower():7} {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    request_id = _request_id.get()
    fields = {} if request_id is None else {"request_id": request_id}
    fields |= {name: value for name, value in vars(record).items() if name not in _USUAL}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in fields.items()}
