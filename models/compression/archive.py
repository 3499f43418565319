"""Opening zip files that strangers sent."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from models.compression.base import CompressionError

MAX_MEMBERS: Final = 50_000
MAX_BYTES: Final = 4 << 30
_MAX_RATIO: Final = 200
_ALWAYS: Final = 1 << 20  # bytes that a member may have whatever its ratio
_CHUNK: Final = 1 << 20
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArchiveError(CompressionError):
    """A zip file that is damaged, too large once unpacked, or that points outside itself."""


class Archive:
    """A zip file of plain files with harmless names, used as a context manager."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, max_members: int = MAX_MEMBERS) -> None:
        """Open the file and check its directory.

        Raises:
            ArchiveError: it is no zip file, or a member has a name or form that is not allowed.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ArchiveError(f"{path.name} is not a zip file: {error}") from error
        try:
            self._members = self._checked(max_bytes, max_members)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        """Names of the files."""
        return sorted(self._members)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file.

        Raises:
            ArchiveError: there is no such file, or it is larger than `max_bytes`, or damaged.
        """
        if name not in self._members:
            raise ArchiveError(f"the zip file has no {name}; it has {', '.join(self.names()[:8]) or 'no files'}")
        return b"".join(self._chunks(self._members[name], max_bytes))

    def extract(self, folder: Path) -> None:
        """Write all files under `folder`."""
        for name, member in self._members.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for chunk in self._chunks(member, member.file_size):
                    file.write(chunk)

    def _checked(self, max_bytes: int, max_members: int) -> dict[str, zipfile.ZipInfo]:
        entries = self._zip.infolist()
        if len(entries) > max_members:
            raise ArchiveError(f"the zip file has {len(entries)} members; {max_members} are allowed")
        total = 0
        members: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            if entry.is_dir():
                continue
            name = _harmless(entry)
            total += entry.file_size
            if entry.file_size > max(_ALWAYS, _MAX_RATIO * entry.compress_size):
                raise ArchiveError(
                    f"{name} of the zip file would unpack to {entry.file_size} bytes: that is a zip bomb"
                )
            if name in members:
                raise ArchiveError(f"the zip file has {name} twice")
            members[name] = entry
        if total > max_bytes:
            raise ArchiveError(f"the zip file would unpack to {total} bytes; {max_bytes} are allowed")
        return members

    def _chunks(self, member: zipfile.ZipInfo, max_bytes: int) -> Iterator[bytes]:
        # The directory's sizes are claims: what counts is what comes out.
        left = max_bytes
        try:
            with self._zip.open(member) as file:
                stream: BinaryIO = file  # type: ignore[assignment]
                while chunk := stream.read(_CHUNK):
                    left -= len(chunk)
                    if left < 0:
                        raise ArchiveError(f"{member.filename} of the zip file is larger than {max_bytes} bytes")
                    yield chunk
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            if isinstance(error, ArchiveError):
                raise
            raise ArchiveError(f"{member.filename} of the zip file cannot be unpacked: {error}") from error
        except Exception as error:  # zlib.error is a plain Exception.
            raise ArchiveError(f"{member.filename} of the zip file is damaged: {error}") from error


def _harmless(entry: zipfile.ZipInfo) -> str:
    name = entry.filename
    path = PurePosixPath(name)
    parts = name.split("/")
    if path.is_absolute() or "\\" in name or "\0" in name or ":" in name or {"", ".", ".."} & set(parts):
        raise ArchiveError(f"the zip file has a member with a path that is not allowed: {name!r}")
    if len(name) > 512:
        raise ArchiveError("the zip file has a member with a path of more than 512 characters")
    mode = entry.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ArchiveError(f"{name} of the zip file is a link or device")
    if entry.flag_bits & 1:
        raise ArchiveError(f"{name} of the zip file is encrypted")
    if entry.compress_type not in _METHODS:
        raise ArchiveError(f"{name} of the zip file is packed in a way that is not allowed: only deflate is")
    return name
