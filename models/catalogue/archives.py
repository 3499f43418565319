"""Taking single files out of archives and folders. Nothing is unpacked by its own path, and nothing is run."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from models.catalogue.entries import PublishedFile
from models.errors import DownloadError

_CHUNK: Final = 1 << 20
_TARS: Final = (".tgz", ".tar.gz", ".tar")
_ZIPS: Final = (".whl", ".zip")


def is_good(file: Path, wanted: PublishedFile) -> bool:
    """Whether `file` is there and has the bytes that it must have."""
    try:
        if file.stat().st_size != wanted.size:
            return False
        with file.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest() == wanted.sha256
    except FileNotFoundError:
        return False


def take(source: Path, wanted: Sequence[PublishedFile], folder: Path) -> None:
    """Copy those of `wanted` that are in `source`, a folder or an archive, and have the right bytes, to `folder`.

    A file of the right name with other bytes is passed over. Archives are tar (gzipped or not) and zip, wheels
    included; entries that are no regular files, or larger than the file that is wanted, are not read.

    Raises:
        DownloadError: `source` is neither, or broken.
    """
    by_name = {file.name: file for file in wanted}
    try:
        if source.is_dir():
            _take_all(_in_folder(source, by_name), by_name, folder)
        elif source.name.endswith(_TARS):
            with tarfile.open(source) as tar:
                _take_all(_in_tar(tar, by_name), by_name, folder)
        elif source.name.endswith(_ZIPS):
            with zipfile.ZipFile(source) as archive:
                _take_all(_in_zip(archive, by_name), by_name, folder)
        else:
            raise DownloadError(f"{source} is neither a folder nor an archive ({', '.join((*_TARS, *_ZIPS))})")
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(f"{source} cannot be read: {error}") from error


_Found = tuple[str, Callable[[], IO[bytes] | None]]


def _in_folder(folder: Path, wanted: Mapping[str, PublishedFile]) -> Iterator[_Found]:
    for file in sorted(folder.rglob("*")):
        if file.name in wanted and file.is_file() and file.stat().st_size == wanted[file.name].size:
            yield file.name, lambda file=file: file.open("rb")  # type: ignore[misc]


def _in_tar(tar: tarfile.TarFile, wanted: Mapping[str, PublishedFile]) -> Iterator[_Found]:
    for member in tar:
        name = PurePosixPath(member.name).name
        if name in wanted and member.isreg() and member.size == wanted[name].size:
            yield name, lambda member=member: tar.extractfile(member)  # type: ignore[misc]


def _in_zip(archive: zipfile.ZipFile, wanted: Mapping[str, PublishedFile]) -> Iterator[_Found]:
    for member in archive.infolist():
        name = PurePosixPath(member.filename).name
        if name in wanted and not member.is_dir() and member.file_size == wanted[name].size:
            yield name, lambda member=member: archive.open(member)  # type: ignore[misc]


def _take_all(found: Iterator[_Found], wanted: Mapping[str, PublishedFile], folder: Path) -> None:
    for name, open_it in found:
        target = folder / name
        if is_good(target, wanted[name]):
            continue
        with _whole(target) as part:
            if (source := open_it()) is not None:
                with source:
                    _copy(source, part, wanted[name].size)
            if not is_good(part, wanted[name]):
                part.unlink(missing_ok=True)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A name to write to; the file gets its own name when it is still there at the end."""
    part = target.with_name(f"{target.name}.part")
    yield part
    if part.exists():
        part.replace(target)


def _copy(source: IO[bytes], target: Path, most: int) -> None:
    # The header of an archive may lie: what comes out is counted.
    with target.open("wb") as file:
        while most > 0 and (data := source.read(min(_CHUNK, most))):
            most -= len(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
