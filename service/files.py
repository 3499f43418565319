"""Files that survive the loss of power."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def sync(path: Path) -> None:
    """Put the file or folder at `path` on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Put a folder and all files in it on the disk."""
    for entry in folder.rglob("*"):
        if not entry.is_symlink():
            sync(entry)
    sync(folder)


def write_whole(file: Path, data: bytes) -> None:
    """Write a file that is there with all its bytes or as it was, whenever the power goes."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as output:
            output.write(data)
            output.flush()
            os.fsync(output.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(file)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    sync(file.parent)
