"""The table of all methods at several sizes: `python -m models.compression.table -o FOLDER`.

Each cell is a compression job of its own, kept in the folder, so that a run that was interrupted goes on. The result is
`table.json` and `table.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.compression import stages
from models.compression.base import CompressionError
from models.compression.cli import corpus_folder, pack_package
from models.compression.pipeline import Event, run
from models.compression.registry import METHODS
from models.compression.spec import parse_spec
from models.store import BUNDLED
from ops.errors import DeepThinError

SIZES: Final = (0.0195, 0.0057, 0.0020)
AMI: Final = "ami-dnn"
NETWORKS: Final = ("tfkaldi-dense", "deepspeech-dense", AMI)
_FIXED: Final = ("int8", "int4")


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
    """All jobs, in the order of the table."""
    return [
        Cell(network, method, size)
        for network in networks
        for method in methods
        if method != "dense"
        for size in ((None,) if method in _FIXED else sizes)
    ]


def measure(cell: Cell, folder: Path, fields: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """The figures of one cell; a size that cannot be reached is an entry with its reason, not an error."""
    done = folder / "cell.json"
    if done.is_file():
        entry: dict[str, Any] = stages.read_json(done)
        return entry
    folder.mkdir(parents=True, exist_ok=True)
    _checkpoint(cell, folder)
    spec = {**fields, "method": cell.method, "allow_slower": True, "name": f"{cell.network}-{cell.method}"}
    if cell.size is not None:
        spec["size"] = cell.size
    if cell.network == AMI:
        spec["front_end"] = AMI
    start = time.perf_counter()
    head = {"network": cell.network, "method": cell.method, "size": cell.size}
    try:
        outcome = run(folder, parse_spec(json.dumps(spec)), progress=_silent, corpora=corpus_folder, threads=threads)
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
    for name in ("stages", "result", "uploads"):
        stages.clear(folder / name)
    return entry


def render(entries: Iterable[Mapping[str, Any]]) -> str:
    """Markdown, a table for each network."""
    by_network: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_network.setdefault(entry["network"], []).append(entry)
    parts = []
    for network, rows in by_network.items():
        corpora = sorted({corpus for row in rows for corpus in row.get("quality", {})})
        header = [
            "Method", "Size asked", "reached", "Download", "On disk", "In memory", "Time of the parent's",
            "Frames as the parent", *(f"WER {corpus}" for corpus in corpora),
        ]  # fmt: skip
        lines = [_line(header), _line(["---", *["--:"] * (len(header) - 1)])]
        first = next((row for row in rows if "error" not in row), None)
        if first is not None:
            scores = [f"{100 * first['parent_quality'][corpus]['wer']:.1f}%" for corpus in corpora]
            resident = _size(first["parent"]["resident"])
            lines.append(_line(["parent", "", "1", "", _size(first["parent"]["disk"]), resident, "1", "", *scores]))
        for row in rows:
            asked = "" if row["size"] is None else f"{row['size']:.4f}"
            if "error" in row:
                lines.append(_line([row["method"], asked, "not reachable", *[""] * (len(header) - 3)]))
                continue
            sizes = row["bytes"]
            lines.append(
                _line(
                    [
                        row["method"],
                        asked,
                        f"{row['reached']:.4f}",
                        *(_size(sizes[name]) for name in ("transport", "disk", "resident")),
                        f"{row['speed']['ratio']:.2f}",
                        f"{row['agreement']['frames']:.1%}",
                        *(f"{100 * row['quality'][corpus]['wer']:.1f}%" for corpus in corpora),
                    ]
                )
            )
        parts.append(f"### {network}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Fill the table."""
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
    args = parser.parse_args(argv)
    fields: dict[str, Any] = {
        "calibration": args.calibration,
        "calibration_seconds": args.calibration_seconds,
        "evaluation": args.evaluate,
        "limit": args.limit,
    }
    if args.fine_tune:
        fields["fine_tune"] = {"epochs": args.fine_tune}
    entries = []
    jobs = cells(args.networks, args.methods, args.sizes)
    try:
        for number, cell in enumerate(jobs, start=1):
            entry = measure(cell, args.output / cell.folder, fields, args.threads)
            entries.append(entry)
            told = entry.get("error") or f"{entry['agreement']['frames']:.1%} of frames as the parent"
            print(f"{number}/{len(jobs)} {cell.folder}: {told}", file=sys.stderr, flush=True)
            settings = {**fields, "threads": args.threads}
            stages.write_json(args.output / "table.json", {"settings": settings, "cells": entries})
            stages.write(args.output / "table.md", render(entries).encode())
    except DeepThinError as error:
        print(f"table: error: {error}", file=sys.stderr)
        return 1
    print(render(entries), end="")
    return 0


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


def _line(columns: Sequence[str]) -> str:
    return "| " + " | ".join(columns) + " |"


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    sys.exit(main())
