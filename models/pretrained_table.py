"""`python -m models.pretrained_table docs/pretrained.md --corpus DIR`: pulled models, measured beside the bundled ones.

Models that are not there are left out, and the command says so. Needs jiwer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.catalogue import ENTRIES
from models.evaluation import Evaluation, evaluate
from models.package import Manifest, ModelPackage
from models.recognisers import load
from models.store import ModelStore
from models.table import update

BEGIN = "<!-- pretrained: begin (written by `python -m models.pretrained_table`) -->"
END = "<!-- pretrained: end -->"
_BUNDLED = ("tfkaldi-dense", "tfkaldi-deepthin-20")


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the table.

    Attributes:
        manifest: what its package says.
        disk: bytes of all files of the package that it needs to run, its decoding graph left out.
        measured: what was measured now.
    """

    manifest: Manifest
    disk: int
    measured: Evaluation


def measure(names: Sequence[str], corpus: Path, limit: int | None, threads: int) -> list[Row]:
    """Score each of the models `names` that is there on the first `limit` utterances of `corpus`.

    Raises:
        CorpusError: the corpus, or a recording in it, cannot be read.
        EvaluationUnavailableError: jiwer is not installed.
        PackageError: a model is broken.
    """
    store, rows = ModelStore(), []
    for name in names:
        if name not in store.names():
            print(f"{name} is not here: left out", file=sys.stderr)
            continue
        package = store.load(name)
        print(f"measuring {name}", file=sys.stderr)
        rows.append(Row(package.manifest, _disk(package), evaluate(load(package.path, threads=threads), corpus, limit)))
    return rows


def render(rows: Sequence[Row], corpus: str) -> str:
    """A Markdown table of `rows`; below it, how many words were scored."""
    lines = [
        f"| Model | Method | Files | Weights on disk | in memory | as a stream | WER, {corpus} | RTF |",
        "| --- | --- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        weights = row.manifest.weights
        transport = "" if weights.transport_bytes is None else _size(weights.transport_bytes)
        sizes = [_size(row.disk), _size(weights.disk_bytes), _size(weights.resident_bytes), transport]
        scores = [f"{100 * row.measured.wer:.1f}%", f"{row.measured.rtf:.3f}"]
        lines.append("| " + " | ".join([f"`{row.manifest.name}`", row.manifest.method, *sizes, *scores]) + " |")
    counts = sorted({(row.measured.utterances, row.measured.words) for row in rows})
    scored = "; ".join(f"{utterances} utterances, {words} words" for utterances, words in counts)
    return "\n".join([*lines, "", f"Scored: {scored}."])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table into a file between its two markers, or print it."""
    parser = argparse.ArgumentParser(prog="python -m models.pretrained_table", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="file with the markers; without it the table is printed")
    parser.add_argument("--corpus", required=True, type=Path, metavar="DIR", help="folder with manifest.tsv")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    parser.add_argument("--threads", type=int, default=1, help="threads of the networks (%(default)s)")
    parser.add_argument("--model", action="append", metavar="NAME", help="measure these instead; may be repeated")
    args = parser.parse_args(argv)
    rows = measure(args.model or [*ENTRIES, *_BUNDLED], args.corpus, args.limit, args.threads)
    if not rows:
        return 1
    table = render(rows, args.corpus.name)
    if args.file is None:
        print(table)
    else:
        text = args.file.read_text(encoding="utf-8")
        args.file.write_text(update(text, table, begin=BEGIN, end=END), encoding="utf-8")
    return 0


def _disk(package: ModelPackage) -> int:
    return sum((package.path / name).stat().st_size for name in package.manifest.files)


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
