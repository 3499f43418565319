"""Word and character error rate of a recogniser on a corpus."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.audio import decode
from models.errors import CorpusError, EvaluationUnavailableError
from models.plain_text import plain_words
from models.recognisers import Recogniser

_COLUMNS = ("utterance", "path", "transcript")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a corpus.

    Attributes:
        name: its identity in the corpus.
        path: the recording.
        transcript: what is said in it, as the corpus writes it.
    """

    name: str
    path: Path
    transcript: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy and speed on a corpus; rates are ratios, not per cent.

    Attributes:
        model: name of the model.
        method: its compression method.
        wer: word errors (substituted, deleted, inserted) by reference words.
        cer: the same for characters, blanks included.
        rtf: seconds of feature extraction, network and search by seconds of audio.
        utterances: recordings scored.
        words: reference words scored.
    """

    model: str
    method: str
    wer: float
    cer: float
    rtf: float
    utterances: int
    words: int


def read_corpus(folder: Path | str, limit: int | None = None) -> list[Utterance]:
    """The first `limit` utterances of a corpus: a folder with `manifest.tsv`.

    The table has a header with at least the columns utterance, path (relative to the folder) and transcript.

    Raises:
        CorpusError: no such folder or table, a column missing, or no utterances.
    """
    table = Path(folder) / "manifest.tsv"
    try:
        with table.open(encoding="utf-8", newline="") as file:
            return parse_corpus(file, table)[:limit]
    except OSError as error:
        raise CorpusError(f"{folder} is not a corpus: {table.name} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{table} is not UTF-8 text") from error


def parse_corpus(lines: Iterable[str], table: Path) -> list[Utterance]:
    """The utterances in the lines of `table`, of which only the name is used; see `read_corpus`.

    Raises:
        CorpusError: a column missing, or no utterances.
    """
    try:
        utterances = list(_rows(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), table))
    except csv.Error as error:
        raise CorpusError(f"{table} is not a table: {error}") from error
    if not utterances:
        raise CorpusError(f"{table} lists no utterances")
    return utterances


def evaluate(
    recogniser: Recogniser,
    corpus_dir: Path | str,
    limit: int | None = None,
    *,
    decoder: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Transcribe a corpus and score its words (see `plain_words`); recordings are taken one at a time, as a user's.

    Args:
        recogniser: the model.
        corpus_dir: folder with `manifest.tsv` (see `read_corpus`).
        limit: score the first `limit` utterances only.
        decoder: "graph" or "greedy" instead of the model's default.
        progress: called with (utterances done, utterances in all).

    Raises:
        CorpusError: the corpus, or a recording in it, cannot be read.
        EvaluationUnavailableError: jiwer is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise EvaluationUnavailableError("scoring needs jiwer: pip install 'deepthin[eval]'") from error

    references, hypotheses = [], []
    audio_seconds = processing_seconds = 0.0
    corpus = read_corpus(corpus_dir, limit)
    for done, utterance in enumerate(corpus, start=1):
        try:
            audio = decode(utterance.path.read_bytes(), sample_rate=recogniser.manifest.sample_rate)
        except (OSError, ValueError) as error:
            raise CorpusError(f"recording {utterance.name} cannot be read: {error}") from error
        start = time.perf_counter()
        [transcript] = recogniser.transcribe([audio], decoder=decoder)
        processing_seconds += time.perf_counter() - start
        audio_seconds += audio.seconds
        references.append(" ".join(plain_words(utterance.transcript)))
        hypotheses.append(" ".join(plain_words(transcript.text)))
        if progress is not None:
            progress(done, len(corpus))
    words = jiwer.process_words(references, hypotheses)
    return Evaluation(
        model=recogniser.manifest.name,
        method=recogniser.manifest.method,
        wer=float(words.wer),
        cer=float(jiwer.cer(references, hypotheses)),
        rtf=processing_seconds / audio_seconds,
        utterances=len(corpus),
        words=sum(len(reference.split()) for reference in references),
    )


def _rows(reader: csv.DictReader[str], table: Path) -> Iterator[Utterance]:
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise CorpusError(f"{table} has no column {', '.join(missing)}; its header must name {', '.join(_COLUMNS)}")
    for line, row in enumerate(reader, start=2):
        if any(not row[column] for column in _COLUMNS):
            raise CorpusError(f"{table}, line {line}: {' / '.join(_COLUMNS)} must not be empty")
        yield Utterance(row["utterance"], table.parent / row["path"], row["transcript"])
