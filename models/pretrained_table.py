"""`python -m models.pretrained_table docs/pretrained.md --corpus DIR`: pulled models, compressed, beside the published.

Every `--every`th utterance is scored. Each model is compressed in the ways of `models.pretrained_recipes`, fitted to
`--calibration`. What is done stays in `--work`: the command goes on where it was stopped. With `--time-only` nothing is
compressed or scored; the models that are there are timed again, in turn. Models that are not there are left out, and
the command says so. Needs jiwer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from models.audio import decode
from models.catalogue import ENTRIES
from models.compression import stages
from models.compression.transport import pack
from models.evaluation import evaluate, read_corpus
from models.package import ModelPackage
from models.pretrained_recipes import RECIPES, make
from models.recognisers import load
from models.store import ModelStore, home
from ops.errors import DeepThinError
from ops.markdown import line, update

BEGIN = "<!-- pretrained: begin (written by `python -m models.pretrained_table`) -->"
END = "<!-- pretrained: end -->"
_BUNDLED: Final = ("tfkaldi-dense", "tfkaldi-deepthin-20")
_CALIBRATION: Final = "librispeech-train"
_TIMED: Final = 6  # utterances
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the table.

    Attributes:
        name: of the model.
        way: how it is stored: "published", a recipe, or the method of a bundled model.
        failed: why there is nothing to measure; empty where there is.
        files: bytes of all files that it needs to run, decoding graphs left out.
        transport: bytes of the whole model as one stream.
        disk: bytes of the weights.
        resident: bytes by which a process grows that loads it and transcribes a recording; 0 when not known.
        wer: word error rate.
        words: reference words scored.
        utterances: recordings scored.
        rtf: processor time by second of audio; 0 when not measured.
    """

    name: str
    way: str
    failed: str = ""
    files: int = 0
    transport: int = 0
    disk: int = 0
    resident: int = 0
    wer: float = 0.0
    words: int = 0
    utterances: int = 0
    rtf: float = 0.0


class Bench:
    """The rows of a table, each kept in a file of the folder `work` once it is done."""

    def __init__(self, work: Path, corpus: Path, every: int, limit: int | None, threads: int) -> None:
        """`corpus`: every `every`th of its utterances is scored, at most `limit` of them."""
        self.work, self._threads = work, threads
        self._subset = work / f"{corpus.name}-{every}" / "manifest.tsv"
        chosen = read_corpus(corpus)[::every][:limit]
        self._subset.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{each.name}\t{each.path.resolve()}\t{each.transcript}" for each in chosen]
        self._subset.write_text("\n".join(["utterance\tpath\ttranscript", *rows]) + "\n", encoding="utf-8")
        self._timed = [each.path for each in chosen[: _TIMED * 4 : 4] or chosen[:1]]

    def row(self, package: ModelPackage, way: str) -> Row:
        """Measure a model, unless that was done before."""
        kept = self.work / "rows" / f"{package.manifest.name}.json"
        if kept.is_file():
            found = Row(**json.loads(kept.read_text(encoding="utf-8")))
            if found.utterances == len(read_corpus(self._subset.parent)):
                return found
        print(f"measuring {package.manifest.name}", file=sys.stderr)
        score = evaluate(load(package.path, threads=self._threads), self._subset.parent)
        known = package.manifest.weights
        row = Row(
            package.manifest.name,
            way,
            files=sum((package.path / name).stat().st_size for name in package.manifest.files),
            transport=known.transport_bytes or len(pack(package.path, {})),
            disk=known.disk_bytes,
            resident=_grown(package.path, self._timed[0]),
            wer=score.wer,
            words=score.words,
            utterances=score.utterances,
        )
        self.keep(row)
        return row

    def keep(self, row: Row) -> None:
        """Write a row down."""
        (self.work / "rows").mkdir(parents=True, exist_ok=True)
        stages.write_json(self.work / "rows" / f"{row.name}.json", asdict(row))

    def times(self, packages: Mapping[str, Path]) -> dict[str, float]:
        """Processor time by second of audio of each model, all of them in turn on the same recordings."""
        models = {name: load(path, threads=self._threads) for name, path in packages.items()}
        taken: dict[str, list[float]] = {name: [] for name in models}
        for path in self._timed:
            data = path.read_bytes()
            for _ in range(_ROUNDS):
                for name, model in models.items():
                    audio = decode(data, sample_rate=model.manifest.sample_rate)
                    start = time.process_time()
                    model.transcribe([audio])
                    taken[name].append((time.process_time() - start) / audio.seconds)
        return {name: statistics.median(values) for name, values in taken.items()}


def measure(
    names: Sequence[str], bench: Bench, calibration: Path | None, seconds: float, *, only_times: bool
) -> list[Row]:
    """The rows of the models `names` that are there and of what they are compressed to.

    Raises:
        CorpusError: a corpus, or a recording in it, cannot be read.
        EvaluationUnavailableError: jiwer is not installed.
        PackageError: a model is broken.
    """
    store, rows = ModelStore(), []
    packages: dict[str, Path] = {}
    for name in names:
        if name not in store.names():
            print(f"{name} is not here: left out", file=sys.stderr)
            continue
        package = store.load(name)
        packages[name] = package.path
        rows.append(bench.row(package, "published" if name in ENTRIES else package.manifest.method))
        for recipe in RECIPES.get(name, ()):
            folder = bench.work / "jobs" / name / recipe.name.replace(" ", "-")
            report = folder / "result" / "report.json"
            try:
                if not report.is_file() and calibration is not None and not only_times:
                    make(package, recipe, folder, calibration, seconds)
                if report.is_file():
                    made = ModelPackage.load(report.parent / stages.read_json(report)["name"])
                    packages[made.manifest.name] = made.path
                    rows.append(bench.row(made, recipe.name))
            except DeepThinError as error:
                print(f"{recipe.name}: {error}", file=sys.stderr)
                rows.append(Row(f"{name}, {recipe.name}", recipe.name, failed=str(error)))
    times = bench.times(packages)
    timed = [replace(row, rtf=times.get(row.name, 0.0)) for row in rows]
    for row in timed:
        if not row.failed:
            bench.keep(row)
    return timed


def render(rows: Sequence[Row], corpus: str) -> str:
    """A Markdown table of `rows`; below it, how many words were scored and what failed."""
    lines = [
        line(["Model", "Stored as", "Stream", "Weights on disk", "in memory", f"WER, {corpus}", "RTF"]),
        line(["---", "---", *["--:"] * 5]),
    ]
    for row in rows:
        if row.failed:
            continue
        sizes = [_size(row.transport), _size(row.disk), _size(row.resident) if row.resident else ""]
        lines.append(line([f"`{row.name}`", row.way, *sizes, f"{100 * row.wer:.1f}%", f"{row.rtf:.3f}"]))
    counts = sorted({(row.utterances, row.words) for row in rows if not row.failed})
    scored = "; ".join(f"{utterances} utterances, {words} words" for utterances, words in counts)
    failed = [f"\n`{row.name}` could not be made: {row.failed}" for row in rows if row.failed]
    return "\n".join([*lines, "", f"Scored: {scored}.", *failed])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table into a file between its two markers, or print it."""
    parser = argparse.ArgumentParser(prog="python -m models.pretrained_table", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="file with the markers; without it the table is printed")
    parser.add_argument("--corpus", required=True, type=Path, metavar="DIR", help="folder with manifest.tsv")
    parser.add_argument("--every", type=int, default=3, metavar="K", help="score every Kth utterance (%(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="score N of these at most")
    parser.add_argument(
        "--calibration", type=Path, metavar="DIR", help=f"corpus to fit to ({_CALIBRATION} beside --corpus)"
    )
    parser.add_argument("--calibration-seconds", type=float, default=60.0, help="of its audio (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the networks (%(default)s)")
    parser.add_argument("--model", action="append", metavar="NAME", help="measure these instead; may be repeated")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where work is kept ($DEEPTHIN_HOME/pretrained-table)")
    parser.add_argument("--time-only", action="store_true", help="compress and score nothing; take the times again")
    args = parser.parse_args(argv)
    bench = Bench(args.work or home() / "pretrained-table", args.corpus, args.every, args.limit, args.threads)
    names = args.model or [*ENTRIES, *_BUNDLED]
    beside = args.corpus.parent / _CALIBRATION
    calibration = args.calibration or (beside if beside.is_dir() else None)
    if calibration is None:
        print(f"no --calibration, and no {_CALIBRATION} beside {args.corpus}: none is compressed", file=sys.stderr)
    rows = measure(names, bench, calibration, args.calibration_seconds, only_times=args.time_only)
    if not rows:
        return 1
    table = render(rows, args.corpus.name)
    if args.file is None:
        print(table)
    else:
        text = args.file.read_text(encoding="utf-8")
        args.file.write_text(update(text, table, begin=BEGIN, end=END), encoding="utf-8")
    return 0


_PROBE: Final = """
import resource, sys
from models.audio import decode
from models.memory import return_freed_memory
from models.recognisers import load
from ops import library
library.check_library(library.library_path())
import models.compression.registry

def resident():
    return_freed_memory()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

audio = decode(open(sys.argv[2], "rb").read(), sample_rate=16000)
before = resident()
model = load(sys.argv[1], threads=1)
model.transcribe([audio])
print(resident() - before)
"""


def _grown(package: Path, recording: Path) -> int:
    """Bytes by which a fresh process grows that loads a model and transcribes a recording; 0 where none can tell."""
    if not Path("/proc/self/statm").is_file():
        return 0
    command = [sys.executable, "-c", _PROBE, str(package), str(recording)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
