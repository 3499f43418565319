"""Corpora in zip files: what can be told of them without unpacking them."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Final

from models.compression.archive import Archive
from models.errors import CorpusError
from models.evaluation import parse_corpus

TABLE: Final = "manifest.tsv"
AUDIO: Final = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".webm", ".aiff", ".aac", ".mka", ".mp4"})
"""Endings of recordings, for corpora without a table."""

_LARGEST_TABLE: Final = 1 << 26


def check_upload(path: Path, *, listed: bool) -> None:
    """See that the corpus in a zip file is whole, without unpacking it; the recordings are not listened to.

    Args:
        path: the zip file.
        listed: whether there must be a table, which says what is said in the recordings.

    Raises:
        ArchiveError: the zip file cannot be used.
        CorpusError: it has no table or a wrong one, no recordings, or not those that the table names.
    """
    with Archive(path) as archive:
        names = {PurePosixPath(name) for name in archive.names()}
        tables = sorted(name for name in names if name.name == TABLE)
        if not tables:
            if listed or not any(name.suffix.lower() in AUDIO for name in names):
                raise CorpusError(f"the zip file has no {TABLE}{'' if listed else ' and no recordings'}")
            return
        table = Path(tables[0])
        try:
            lines = archive.read(str(tables[0]), _LARGEST_TABLE).decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise CorpusError(f"{table} is not UTF-8 text") from error
    for utterance in parse_corpus(lines, table):
        if PurePosixPath(os.path.normpath(utterance.path)) not in names:
            raise CorpusError(f"{utterance.name} of {table} is not in the zip file: {str(utterance.path)[:200]}")
