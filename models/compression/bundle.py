"""The files of a model package one behind the other."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from models.compression.base import StreamError
from models.package import Manifest, ModelPackage

_SIZE: Final = struct.Struct("<I")


def bundle(package: ModelPackage, networks: Sequence[bytes]) -> bytes:
    """The networks of a package and its other files as one; a network alone is what it is."""
    manifest = package.manifest
    others = [(package.path / name).read_bytes() for name in manifest.files if name not in manifest.networks]
    if len(networks) == 1 and not others:
        return networks[0]
    return b"".join(_SIZE.pack(len(part)) + part for part in (*networks, *others))


def unbundle(manifest: Manifest, data: bytes) -> dict[str, bytes]:
    """The files, by name, that `bundle` put together.

    Raises:
        StreamError: they are not those that `manifest` names.
    """
    names = [*manifest.networks, *(name for name in manifest.files if name not in manifest.networks)]
    if len(names) == 1:
        return {names[0]: data}
    files, position = {}, 0
    for name in names:
        if len(data) - position < _SIZE.size:
            raise StreamError("the files in the bitstream end too early")
        (size,) = _SIZE.unpack_from(data, position)
        position += _SIZE.size
        if size > len(data) - position:
            raise StreamError("the files in the bitstream end too early")
        files[name] = data[position : position + size]
        position += size
    if position != len(data):
        raise StreamError("there is more in the bitstream than its manifest names")
    return files
