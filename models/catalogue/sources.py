"""Fetching archives from registries, whose ordinary clients know the user's mirrors and keys."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from models.catalogue.direct import address, download
from models.catalogue.entries import Archive, PublishedFile
from models.errors import DownloadError

Progress = Callable[[str, int, int], None]
"""Called with (what is fetched, bytes so far, bytes in all)."""

_POLL_SECONDS: Final = 0.2
_LONGEST_SECONDS: Final = 1800.0


def fetch(archive: Archive, folder: Path, progress: Progress) -> Path:
    """Fetch `archive` into `folder`; the file. None of what is in it is run.

    It comes from the address that the registry's client tells, so that a download that was cut off goes on; where that
    does not do, the client fetches it, from the start.

    Raises:
        DownloadError: the client is not there, or did not get it; or the download was cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label = f"{archive.package} {archive.version}"
    url = address(archive)
    found = None if url is None else download(url, archive, folder, lambda done: progress(label, done, archive.size))
    if found is not None:
        return found
    before = set(folder.iterdir())
    with tempfile.TemporaryDirectory(prefix=".client-", dir=folder.parent) as scratch:
        command = _command(archive, folder, Path(scratch))
        _run(command, archive, lambda: _bytes(Path(scratch)) + _bytes(folder), progress)
    new = [file for file in folder.iterdir() if file not in before and file.is_file()]
    if len(new) != 1:
        raise DownloadError(f"{archive.client} left {len(new)} files of {archive.package}, not one")
    return new[0]


def fetch_from_hub(file: PublishedFile, folder: Path) -> Path:
    """Fetch one file from huggingface.co into `folder`; the file. A download that was cut off goes on where it was.

    Raises:
        DownloadError: huggingface_hub is not installed, or did not get it.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise DownloadError("this source needs huggingface_hub: pip install huggingface_hub") from error
    repository, path = file.hub
    try:
        return Path(hf_hub_download(repository, path, local_dir=folder))
    except Exception as error:  # Its exceptions come from several libraries and share no base class.
        raise DownloadError(f"{repository}/{path} cannot be fetched: {error}") from error


def _command(archive: Archive, folder: Path, scratch: Path) -> list[str]:
    if archive.client == "npm":
        # A cache of its own: its size shows how far the download is.
        options = ["--ignore-scripts", "--loglevel=error", f"--pack-destination={folder}", f"--cache={scratch}"]
        return ["npm", "pack", f"{archive.package}@{archive.version}", *options]
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", f"--dest={folder}"]
    return [sys.executable, "-m", "pip", "download", *options, f"{archive.package}=={archive.version}"]


def _run(command: Sequence[str], archive: Archive, arrived: Callable[[], int], progress: Progress) -> None:
    label = f"{archive.package} {archive.version}"
    deadline = time.monotonic() + _LONGEST_SECONDS
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as error:
        raise DownloadError(f"{label} needs the program {command[0]!r}, or an archive given with --from") from error
    with process:
        try:
            while process.poll() is None and time.monotonic() < deadline:
                progress(label, min(arrived(), archive.size - 1), archive.size)
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
        _, complaint = process.communicate()
    if process.returncode:
        last = next((line for line in reversed(complaint.splitlines()) if line.strip()), "it was stopped")
        raise DownloadError(
            f"{archive.client} did not get {label}: {last.strip()}; --from takes an archive or a folder"
        )
    progress(label, archive.size, archive.size)


def _bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # The client moves its files about.
            continue
    return total
