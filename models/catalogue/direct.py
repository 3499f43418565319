"""Fetching an archive from where its registry says that it is, so that a download that was cut off goes on.

npm and pip tell the address by their settings, mirrors included; neither goes on within an archive itself. What cannot
be had in this way (the registry wants a key, or the address is not told) is left to them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from models.catalogue.entries import Archive
from models.errors import DownloadError

_PATIENCE: Final = 60.0  # seconds without a byte; of the clients, until they answer
_TRIES: Final = 5  # in a row that bring nothing


def address(archive: Archive) -> str | None:
    """Where the registry has `archive`, as its client tells; None where it does not."""
    wanted, made = _question(archive)
    try:
        answer = subprocess.run(wanted, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE)
        found = made(json.loads(answer.stdout)) if answer.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError):
        return None
    if not isinstance(found, str) or not found.endswith((".tgz", ".whl")):
        return None
    parts = urlsplit(found)
    return found if parts.scheme in ("http", "https") and not parts.username else None


def download(url: str, archive: Archive, folder: Path, progress: Callable[[int], None]) -> Path | None:
    """The archive at `url` in `folder`, after what is there of it already; None where the server does not give it.

    Args:
        url: of the archive.
        archive: what it is; one of another size is not taken.
        folder: to write to; what has arrived stays in a file that ends in `.part`.
        progress: called with the bytes so far.

    Raises:
        DownloadError: it was cut off again and again; what has arrived is kept.
    """
    target = folder / PurePosixPath(urlsplit(url).path).name
    part = target.with_name(f"{target.name}.part")
    idle = 0
    with httpx.Client(follow_redirects=True, timeout=_PATIENCE) as client:
        while idle < _TRIES:
            before = _size(part)
            try:
                if not _go_on(client, url, archive.size, part, progress):
                    return None
            except httpx.TransportError as error:
                if not _size(part):
                    return None  # a proxy, say, that the registry's client knows
                complaint = str(error)
            else:
                complaint = "the connection was closed"
            if _size(part) == archive.size:
                part.replace(target)
                return target
            idle = 0 if _size(part) > before else idle + 1
    raise DownloadError(
        f"{archive.package} {archive.version} was cut off after {_size(part)} of {archive.size} bytes ({complaint}); "
        "the same command goes on from there"
    )


def _go_on(client: httpx.Client, url: str, size: int, part: Path, progress: Callable[[int], None]) -> bool:
    """Add to `part` what is missing; whether the server gave anything that fits."""
    done = _size(part)
    if done > size:
        part.unlink()
        done = 0
    if done == size:
        return True
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.stream("GET", url, headers=headers) as answer:
        whole = answer.status_code == httpx.codes.OK and answer.headers.get("content-length") == str(size)
        rest = answer.status_code == httpx.codes.PARTIAL_CONTENT
        if rest and answer.headers.get("content-range") != f"bytes {done}-{size - 1}/{size}":
            return False
        if not whole and not rest:
            return False
        done = done if rest else 0
        with part.open("ab" if rest else "wb") as file:
            for data in answer.iter_raw():
                file.write(data[: size - done])
                done = min(done + len(data), size)
                progress(done)
    return True


def _question(archive: Archive) -> tuple[list[str], Callable[[Any], Any]]:
    """What to run, and what to take of its answer."""
    if archive.client == "npm":
        command = ["npm", "view", f"{archive.package}@{archive.version}", "dist.tarball", "--json", "--loglevel=error"]
        return command, lambda answer: answer
    options = ["--dry-run", "--quiet", "--disable-pip-version-check", "--ignore-installed", "--no-deps"]
    options += ["--only-binary=:all:", "--report=-"]
    command = [sys.executable, "-m", "pip", "install", *options, f"{archive.package}=={archive.version}"]
    return command, lambda answer: answer["install"][0]["download_info"]["url"]


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
