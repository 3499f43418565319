"""Corpora that jobs may name: folders with `manifest.tsv` that the operator put there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models.errors import CorpusError

MANIFEST: Final = "manifest.tsv"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Corpora:
    """Corpora by name in a list of folders, earlier folders winning over later ones."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)

    def names(self) -> tuple[str, ...]:
        """Names of all corpora, sorted."""
        return tuple(
            sorted(
                {
                    folder.name
                    for root in self.roots
                    if root.is_dir()
                    for folder in root.iterdir()
                    if _NAME.fullmatch(folder.name) and (folder / MANIFEST).is_file()
                }
            )
        )

    def __call__(self, name: str) -> Path:
        """Folder of the corpus `name`.

        Raises:
            CorpusError: it is not installed here.
        """
        if _NAME.fullmatch(name):
            for root in self.roots:
                if (root / name / MANIFEST).is_file():
                    return root / name
        raise CorpusError(f"there is no corpus {name!r} here; corpora here: {', '.join(self.names()) or 'none'}")
