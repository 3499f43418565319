"""The table of all methods at several sizes: `python -m models.compression.table -o FOLDER`.

Each cell is a compression job of its own, kept in the folder, so that a run that was interrupted goes on; the largest
sizes are done first. The result is `table.json` and `table.md`, and with `--write FILE` the part of a Markdown file
between two marks. Each cell keeps its network, so that `--time-only` can take all times again, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from models.compression import stages
from models.compression.assess import speed
from models.compression.base import CompressionError
from models.compression.cli import corpus_folder, pack_package
from models.compression.evaluating import SAMPLE
from models.compression.job import Job
from models.compression.pipeline import STAGES, Event, run
from models.compression.registry import METHODS
from models.compression.spec import CompressionSpec, parse_spec
from models.store import BUNDLED
from models.table import update
from ops import library
from ops.errors import DeepThinError

SIZES: Final = (0.0195, 0.0057, 0.0020)
AMI: Final = "ami-dnn"
NETWORKS: Final = ("tfkaldi-dense", "deepspeech-dense", AMI)
BEGIN: Final = "<!-- methods: begin (written by `python -m models.compression.table --write`) -->"
END: Final = "<!-- methods: end -->"
_FIXED: Final = ("int8", "int4")
_DONE: Final = "cell.json"
_KEPT: Final = ("validate", "export")  # stages that timing needs
_TABLE: Final = "table.json"
_COLUMNS: Final = (
    "Method", "Size asked", "reached", "Download", "On disk", "In memory", "Time by the parent's",
    "Frames as the parent", "Divergence",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One job of the table.

    Attributes:
        network: an installed package, or "ami-dnn" for the one under `$DEEPTHIN_DATA`.
        method: compression method.
        size: relative size; None for methods that have one.
    """

    network: str
    method: str
    size: float | None

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.network}_{self.method}_{'own' if self.size is None else f'{self.size:g}'}"


def cells(networks: Sequence[str], methods: Sequence[str], sizes: Sequence[float]) -> list[Cell]:
    """All jobs in the order of their doing: size by size, so that a run that is stopped early has something of all."""
    chosen = [method for method in methods if method != "dense"]
    found = [
        Cell(network, method, size)
        for size in sizes
        for network in networks
        for method in chosen
        if method not in _FIXED
    ]
    return found + [Cell(network, method, None) for network in networks for method in chosen if method in _FIXED]


def measure(cell: Cell, folder: Path, fields: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The figures of one cell; a size that cannot be reached is an entry with its reason, not an error."""
    done = folder / _DONE
    if done.is_file():
        entry: dict[str, Any] = stages.read_json(done)
        return entry
    folder.mkdir(parents=True, exist_ok=True)
    _checkpoint(cell, folder)
    start = time.perf_counter()
    head = {"network": cell.network, "method": cell.method, "size": cell.size}
    try:
        outcome = run(folder, _spec(cell, fields), progress=_silent, corpora=corpus_folder, threads=threads)
    except CompressionError as error:
        entry = {**head, "error": str(error)}
    else:
        report = stages.read_json(outcome.report)
        entry = {
            **head,
            "reached": report["weights"]["relative_size"],
            "weights": report["weights"],
            "bytes": report["bytes"],
            "parent": report["parent"],
            "agreement": report["agreement"],
            "speed": report["speed"],
            "quality": report["quality"],
            "parent_quality": report["parent_quality"],
            "parity": report["parity"]["difference"],
            "fine_tune": report["fine_tune"],
            "seconds": round(time.perf_counter() - start, 1),
        }
    stages.write_json(done, entry)
    for name in ("result", "uploads", *(f"stages/{stage}" for stage in STAGES if stage not in _KEPT)):
        stages.clear(folder / name)
    return entry


def time_again(cell: Cell, folder: Path, fields: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The figures of a cell that is done, with its times taken anew."""
    entry: dict[str, Any] = stages.read_json(folder / _DONE)
    if "error" not in entry:
        job = Job(folder, _spec(cell, fields), corpus_folder, threads)
        parent, result = (
            library.session(model.SerializeToString(), threads=threads) for model in (job.original, job.exported)
        )
        given, seconds, _ = job.timed_sample(min(job.spec.limit or SAMPLE, SAMPLE))
        entry["speed"] = asdict(speed(parent, result, given, seconds, threads=threads))
        stages.write_json(folder / _DONE, entry)
    return entry


def render(entries: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Markdown, a table for each network; `settings` as in `table.json`."""
    by_network: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_network.setdefault(entry["network"], []).append(entry)
    names = list(METHODS)
    parts = [describe(settings)]
    for network, found in by_network.items():
        rows = sorted(found, key=lambda row: (names.index(row["method"]), -(row["size"] or 0)))
        measured = [row for row in rows if "error" not in row]
        corpora = sorted({corpus for row in measured for corpus in row["quality"]})
        columns = [*_COLUMNS, *(f"WER {corpus}" for corpus in corpora)]
        lines = [_line(columns), _line(["---", *["--:"] * (len(columns) - 1)])]
        if measured:
            parent, quality = measured[0]["parent"], measured[0]["parent_quality"]
            disk, resident = _size(parent["disk"]), _size(parent["resident"])
            lines.append(_line(["(parent)", "", "1", "", disk, resident, "1", "", "", *_rates(quality, corpora)]))
        lines += [_row(row, corpora) for row in rows]
        if refused := [f"- {_asked(row)}: {row['error']}" for row in rows if "error" in row]:
            lines += ["", "Cannot be reached:", "", *refused]
        parts.append("\n".join([f"### {network}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def describe(settings: Mapping[str, Any]) -> str:
    """The settings in words."""
    fitted, tuned = "compressed without calibration", "not fine-tuned"
    if settings["calibration"]:
        fitted = f"fitted to {settings['calibration_seconds']:g} s of {' and '.join(settings['calibration'])}"
    if settings.get("fine_tune"):
        tuned = f"then fine-tuned for {settings['fine_tune']['epochs']} epochs on the same audio"
    count = "all" if settings["limit"] is None else f"the first {settings['limit']}"
    judged = f"agreement and word error rates on {count} utterances of {' and '.join(settings['evaluation'])}"
    return f"Weights {fitted}, {tuned}; {judged}."


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the table."""
    args = _parser().parse_args(argv)
    fields: dict[str, Any] = {
        "calibration": args.calibration,
        "calibration_seconds": args.calibration_seconds,
        "evaluation": args.evaluate,
        "limit": args.limit,
    }
    if args.fine_tune:
        fields["fine_tune"] = {"epochs": args.fine_tune}
    settings = {**fields, "threads": args.threads}
    entries: list[dict[str, Any]] = []
    jobs = cells(args.networks, args.methods, args.sizes)
    try:
        _same_settings(args.output, settings)
        args.output.mkdir(parents=True, exist_ok=True)
        _keep(args, entries, settings)
        for number, cell in enumerate(jobs, start=1):
            folder = args.output / cell.folder
            if (args.only_done or args.time_only) and not (folder / _DONE).is_file():
                continue
            entry = (time_again if args.time_only else measure)(cell, folder, fields, args.threads)
            entries.append(entry)
            told = entry.get("error") or (
                f"{entry['agreement']['frames']:.1%} of frames as the parent, {entry['speed']['ratio']:.2f} of its time"
            )
            print(f"{number}/{len(jobs)} {cell.folder}: {told}", file=sys.stderr, flush=True)
            _keep(args, entries, settings)
    except DeepThinError as error:
        print(f"table: error: {error}", file=sys.stderr)
        return 1
    print(render(entries, settings), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.compression.table", description=__doc__)
    add = parser.add_argument
    add("-o", "--output", type=Path, required=True, help="folder of the jobs and of table.json and table.md")
    add("--networks", nargs="+", default=list(NETWORKS), help="packages, or ami-dnn")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="methods (all)")
    add("--sizes", nargs="+", type=float, default=list(SIZES), help="relative sizes (.0195 .0057 .0020)")
    add("--calibration", nargs="*", default=["librispeech-train", "an4-train"], help="corpora (none: plain)")
    add("--calibration-seconds", type=float, default=240.0, help="audio used of them (240)")
    add("--evaluate", nargs="+", default=["an4-test"], help="corpora (an4-test)")
    add("--limit", type=int, help="utterances of each")
    add("--fine-tune", type=int, metavar="EPOCHS", help="fine-tune for so many epochs (needs PyTorch)")
    add("--threads", type=int, default=1)
    add("--write", type=Path, metavar="FILE", help="Markdown file that has the table between its marks")
    add("--only-done", action="store_true", help="do no job, only put together those that are done")
    add("--time-only", action="store_true", help="do no job, but take the times of those that are done again")
    return parser


def _keep(args: argparse.Namespace, entries: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    stages.write_json(args.output / _TABLE, {"settings": settings, "cells": list(entries)})
    text = render(entries, settings)
    stages.write(args.output / "table.md", text.encode())
    if args.write is not None:
        stages.write(args.write, update(args.write.read_text(encoding="utf-8"), text, BEGIN, END).encode())


def _same_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """A folder's cells all come of the same settings: others in one table could not be compared."""
    kept = folder / _TABLE
    if kept.is_file() and (earlier := stages.read_json(kept)["settings"]) != settings:
        differ = ", ".join(sorted(key for key in {*earlier, *settings} if earlier.get(key) != settings.get(key)))
        raise CompressionError(f"{folder} holds cells with other settings ({differ}): give another folder")


def _spec(cell: Cell, fields: Mapping[str, Any]) -> CompressionSpec:
    spec = {**fields, "method": cell.method, "allow_slower": True, "name": f"{cell.network}-{cell.method}"}
    if cell.size is not None:
        spec["size"] = cell.size
    if cell.network == AMI:
        spec["front_end"] = AMI
    return parse_spec(json.dumps(spec))


def _checkpoint(cell: Cell, folder: Path) -> None:
    if cell.network == AMI:
        data = os.environ.get("DEEPTHIN_DATA")
        if not data:
            raise CompressionError("ami-dnn is looked for under $DEEPTHIN_DATA, which is not set")
        target, source = folder / "checkpoint.onnx", Path(data) / AMI / f"{AMI}.onnx"
        if not target.is_file():
            stages.write(target, source.read_bytes())
        return
    pack_package(BUNDLED / cell.network, folder / "checkpoint.zip")


def _silent(event: Event) -> None:
    """The table reports whole cells."""


def _row(row: Mapping[str, Any], corpora: Sequence[str]) -> str:
    asked = "" if row["size"] is None else f"{row['size']:.4f}"
    if "error" in row:
        return _line([row["method"], asked, "cannot reach", *[""] * (len(_COLUMNS) - 3 + len(corpora))])
    sizes, tuned = row["bytes"], row["fine_tune"]
    return _line(
        [
            row["method"],
            asked,
            f"{row['reached']:.4f}",
            *(_size(sizes[name]) for name in ("transport", "disk", "resident")),
            f"{row['speed']['ratio']:.2f}",
            f"{row['agreement']['frames']:.1%}",
            f"{tuned['before']:.2f} → {tuned['after']:.2f}" if tuned else "",
            *_rates(row["quality"], corpora),
        ]
    )


def _rates(quality: Mapping[str, Any], corpora: Sequence[str]) -> list[str]:
    return [f"{100 * quality[corpus]['wer']:.1f}%" if corpus in quality else "" for corpus in corpora]


def _asked(row: Mapping[str, Any]) -> str:
    return f"{row['method']} at {row['size']:.4f}" if row["size"] is not None else str(row["method"])


def _line(columns: Sequence[str]) -> str:
    return "| " + " | ".join(columns) + " |"


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    sys.exit(main())
