"""Model packages as they go over the wire."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from models.package import MANIFEST_FILE, ModelPackage
from service.keeper import REPORT_FILE

_CHUNK: Final = 1 << 18
# The earliest that a zip file can say; the same package gives the same bytes whenever it is downloaded.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class StreamPacker:
    """Makes the transport streams of models that came without one."""

    def __init__(self) -> None:
        """One at a time: it takes several times the memory of the model."""
        self._turn = asyncio.Lock()

    async def stream(self, package: ModelPackage) -> bytes:
        """The stream of a package.

        Raises:
            DeepThinError: the package is broken.
        """
        async with self._turn:
            return await asyncio.to_thread(_packed, package.path)


def _packed(folder: Path) -> bytes:
    # What only compresses stays out of a service that only transcribes.
    from models.compression.transport import pack

    return pack(folder, {})


class _Pipe:
    """Takes what the zip file is made of, and gives it out again."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def take(self) -> bytes:
        """All bytes since the last time."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def package_zip(package: ModelPackage) -> Iterator[bytes]:
    """A package as a zip file, `NAME/manifest.json` and so on, piece by piece.

    The files are open from the start, so that a model that is deleted meanwhile arrives whole.
    """
    names = [name for name in (MANIFEST_FILE, *package.manifest.files, REPORT_FILE) if (package.path / name).is_file()]
    files = ExitStack()
    sources = {name: files.enter_context((package.path / name).open("rb")) for name in names}
    folder = package.manifest.name

    def pieces() -> Iterator[bytes]:
        pipe = _Pipe()
        # Weights hardly shrink, however hard one tries.
        with files, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:  # type: ignore[call-overload]
            for name, source in sources.items():
                entry = zipfile.ZipInfo(f"{folder}/{name}", _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with archive.open(entry, "w", force_zip64=True) as target:
                    while data := source.read(_CHUNK):
                        target.write(data)
                        yield pipe.take()
        yield pipe.take()

    return pieces()
