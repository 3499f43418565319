"""The recordings of a job: installed corpora and uploaded ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from models.audio import Audio, AudioError, decode
from models.compression.archive import Archive
from models.compression.base import Array, CompressionError
from models.compression.listening import AudioInputs
from models.compression.spec import UPLOAD
from models.compression.stages import clear
from models.compression.uploaded import AUDIO, TABLE, check_upload
from models.errors import CorpusError
from models.evaluation import read_corpus

_LONGEST: Final = 3600.0
_USED: Final = 30.0  # seconds of one recording; more would not go through a network at once on a small box


class Corpora:
    """Folders of the corpora that a job names."""

    def __init__(self, folder: Path, installed: Callable[[str], Path], kind: str) -> None:
        """`folder`: of the job; `kind`: "calibration" or "evaluation", the name of the uploaded zip file."""
        self._folder = folder
        self._installed = installed
        self._kind = kind

    def folder(self, name: str) -> Path:
        """The folder of corpus `name`.

        Raises:
            CorpusError: it is not installed, or not whole.
            CompressionError: nothing was uploaded, or the zip file cannot be used.
        """
        return self._uploaded() if name == UPLOAD else self._installed(name)

    def _uploaded(self) -> Path:
        target = self._folder / "uploads" / self._kind
        if not target.is_dir():
            archive = self._folder / f"{self._kind}.zip"
            if not archive.is_file():
                raise CompressionError(f"{self._kind} names {UPLOAD!r}, and no zip file was uploaded for it")
            check_upload(archive, listed=self._kind == "evaluation")
            draft = target.with_name(f".{self._kind}")
            clear(draft)
            draft.mkdir(parents=True)
            with Archive(archive) as opened:
                opened.extract(draft)
            draft.rename(target)
        tables = sorted(target.rglob(TABLE))
        return tables[0].parent if tables else target


def audio_files(folder: Path) -> list[Path]:
    """The recordings of a corpus, in the order of its table, or of their names where it has none.

    Raises:
        CorpusError: there are none.
    """
    if (folder / TABLE).is_file():
        return [utterance.path for utterance in read_corpus(folder)]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO and path.is_file())
    if not files:
        raise CorpusError(f"{folder.name} has neither {TABLE} nor recordings")
    return files


def feeds(
    folders: Sequence[Path],
    inputs: AudioInputs,
    *,
    seconds: float | None = None,
    limit: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[list[dict[str, Array]], float]:
    """What goes into the network for recordings of corpora, and how many seconds of audio that is.

    Args:
        folders: the corpora; all get the same share.
        inputs: how recordings go in.
        seconds: stop at so much audio, taken from all over each corpus; None: take all, in order.
        limit: recordings of each corpus, at most.
        progress: called with the fraction done.

    Raises:
        CorpusError: a recording cannot be read, or there is none with any sound in it.
    """
    made: list[dict[str, Array]] = []
    total = 0.0
    for number, folder in enumerate(folders):
        files = audio_files(folder)
        if seconds is not None:
            random.Random(1).shuffle(files)
        share = None if seconds is None else seconds / len(folders)
        heard = 0.0
        for done, path in enumerate(files[:limit]):
            if share is not None and heard >= share:
                break
            try:
                audio = decode(path.read_bytes(), sample_rate=inputs.sample_rate, max_seconds=_LONGEST)
            except AudioError as error:
                raise CorpusError(f"recording {path.name} cannot be read: {error}") from error
            except OSError as error:
                raise CorpusError(f"recording {path.name} cannot be read: {error.strerror}") from error
            audio = Audio(audio.samples[: int(_USED * audio.sample_rate)], audio.sample_rate)
            if (feed := inputs.of(audio)) is None:
                continue
            made.append(feed)
            heard += audio.seconds
            part = heard / share if share is not None else (done + 1) / len(files[:limit])
            progress((number + min(part, 1.0)) / len(folders))
        total += heard
    if not made:
        raise CorpusError("the corpora have no recordings")
    return made, total
