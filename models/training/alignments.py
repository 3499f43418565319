"""Phone alignments of a corpus in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.training.alignment import Alignment
from models.training.batches import Example
from models.training.config import ConfigError


def save(path: Path, names: Sequence[str], alignments: Sequence[Alignment | None]) -> None:
    """Write the alignments of the utterances `names`; None where there is none."""
    labels = [a.labels if a else np.zeros(0, np.int16) for a in alignments]
    phones = [np.asarray(a.phones if a and a.phones else (), np.int16) for a in alignments]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        names=np.array(names),
        labels=np.concatenate(labels),
        label_ends=np.cumsum([len(x) for x in labels]),
        phones=np.concatenate(phones),
        phone_ends=np.cumsum([len(x) for x in phones]),
    )


def load(path: Path, names: Sequence[str]) -> list[Example]:
    """The examples of the utterances `names`, which must be those of the file; those without any target are left out.

    Raises:
        ConfigError: the file is missing or belongs to other corpora.
    """
    if not path.is_file():
        raise ConfigError(f"no alignments at {path}; make them with `python -m models.training.prepare {path}`")
    with np.load(path) as file:
        if list(file["names"]) != list(names):
            raise ConfigError(f"{path} holds the alignments of other corpora; make it anew")
        labels = np.split(file["labels"], file["label_ends"][:-1])
        phones = np.split(file["phones"], file["phone_ends"][:-1])
    return [
        Example(index, tuple(int(p) for p in phones[index]) or None, labels[index])
        for index in range(len(names))
        if len(labels[index])
    ]
