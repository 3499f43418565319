"""The web page at `/`, the API reference at `/docs`, and the files that they are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parents[1] / "page"
_SAMPLE: Final = Path(__file__).parents[1] / "demo" / "clip.ogg"
_START: Final = "index.html"
_REFERENCE: Final = "reference.html"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    media_type: str
    tag: str


@cache
def _files() -> dict[str, _File]:
    # A lookup among names that are known: nothing that a client sends becomes a path.
    files = {path.name: _read(path, _TYPES[path.suffix]) for path in _FOLDER.iterdir() if path.suffix in _TYPES}
    files["sample.ogg"] = _read(_SAMPLE, "audio/ogg")
    return files


def _read(path: Path, media_type: str) -> _File:
    data = path.read_bytes()
    return _File(data, media_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


@router.api_route("/", methods=["GET", "HEAD"])
def page(request: Request) -> Response:
    """The page."""
    return _answer(request, _START)


@router.api_route("/docs", methods=["GET", "HEAD"])
def reference(request: Request) -> Response:
    """The reference of the API, which its script makes of `/openapi.json`."""
    return _answer(request, _REFERENCE)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
def part(request: Request, name: str) -> Response:
    """A script, a style sheet, a picture, or the recording to try it with."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file = _files().get(name)
    if file is None:
        raise HTTPException(404)
    # Kept by the browser, and asked for each time whether it is still the same.
    headers = {"etag": file.tag, "cache-control": "no-cache"}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=file.media_type, headers=headers)
