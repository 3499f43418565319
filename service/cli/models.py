"""`deepthin models`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from models.errors import PackageError
from models.store import ModelStore
from service.cli import model_changes
from service.cli.common import Parsers

_HEADER = ("NAME", "FAMILY", "METHOD", "SIZE", "ON DISK", "IN MEMORY", "WORD ERROR RATE")


def add_to(commands: Parsers) -> None:
    """Add the parser of `models`."""
    parser = commands.add_parser(
        "models",
        help="list the models, get more, take them away",
        description="Without a command: list the models that come with DeepThin and those under "
        "$DEEPTHIN_HOME/models. SIZE is the stored size of the weight matrices by their uncompressed size; bytes are "
        "those of the weights; * marks the default.",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON, with more detail")
    parser.set_defaults(run=run)
    model_changes.add_to(parser.add_subparsers(title="commands", metavar="COMMAND"))


def run(args: argparse.Namespace) -> int:
    """Print what is known about each model."""
    store = ModelStore()
    default = store.default()
    entries = [_entry(store, name, default) for name in store.names()]
    if args.json:
        print(json.dumps(entries, indent=2))
    elif not entries:
        print(f"no models in {', '.join(str(root) for root in store.roots)}")
    else:
        _print_table([_HEADER, *(_row(entry) for entry in entries)])
    return 0


def _entry(store: ModelStore, name: str, default: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "default": name == default}
    try:
        package = store.load(name)
    except PackageError as error:
        return {**entry, "error": str(error)}
    manifest = package.manifest
    return {
        **entry,
        "family": manifest.family,
        "method": manifest.method,
        "relative_size": manifest.relative_size,
        "parent": manifest.parent,
        "disk_bytes": manifest.weights.disk_bytes,
        "resident_bytes": manifest.weights.resident_bytes,
        "wer": {corpus: quality.wer for corpus, quality in manifest.quality.items()},
        "path": str(package.path),
        "description": manifest.description,
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    name = entry["name"] + ("*" if entry["default"] else "")
    if "error" in entry:
        return (name, f"cannot be used: {entry['error']}")
    return (
        name,
        entry["family"],
        entry["method"],
        f"{entry['relative_size']:.4g}",
        _bytes(entry["disk_bytes"]),
        _bytes(entry["resident_bytes"]),
        ", ".join(f"{corpus} {rate:.1%}" for corpus, rate in entry["wer"].items()) or "not measured",
    )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _print_table(rows: list[tuple[str, ...]]) -> None:
    full = [row for row in rows if len(row) == len(_HEADER)]
    widths = [max(len(row[column]) for row in full) for column in range(len(_HEADER))]
    widths[0] = max(len(row[0]) for row in rows)
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())
