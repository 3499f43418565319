"""What the benchmarks' commands have in common: their options, and the rows as a table or as JSON."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import onnxruntime as ort

from ops.library import instruction_set
from ops.markdown import update

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)

BATCHES = (1, 16, 64)
KERNELS = (BATCHES, (1, 2), 9)
"""Rows per call, threads and rounds of a benchmark of operators."""
KERNELS_QUICK = (BATCHES, (1,), 3)


def kernel_setting() -> str:
    """The first line of a table of operators."""
    return f"instruction set {instruction_set()}, ONNX Runtime {ort.__version__}; times in microseconds"


def report(
    argv: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    quick: str,
    rows: "Callable[[bool], Iterable[Row]]",
    head: str,
    line: "Callable[[Row], str]",
    page: "tuple[str, Callable[[Sequence[Row]], str]] | None" = None,
    drawings: "Callable[[Sequence[Row]], Mapping[str, str]] | None" = None,
) -> int:
    """Print the rows of a benchmark as the command line asks for them.

    Args:
        argv: The command line's arguments; None takes those of the process.
        prog: The command's name.
        description: What it measures.
        quick: What ``--quick`` leaves out.
        rows: Gives the rows, of dataclasses, one after the other as they are measured; takes whether to be quick.
        head: What stands above a table.
        line: A row in a table.
        page: The name of a part of docs/performance.md, and how the rows make it; with it there is ``--write``.
        drawings: Files that are written beside that page, by name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog=prog, description=f"{description} Run it on an otherwise idle machine.")
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows instead of a table")
    parser.add_argument("--quick", action="store_true", help=quick)
    if page:
        parser.add_argument("--write", type=Path, metavar="DOCS", help="also write performance.md in this folder anew")
    options = parser.parse_args(argv)
    found = rows(options.quick)
    if options.json:
        found = list(found)
        print(json.dumps([asdict(row) for row in found], indent=1))
    else:
        print(head)
        shown = []
        for row in found:
            print(line(row), flush=True)
            shown.append(row)
        found = shown
    if page and options.write:
        name, render = page
        path = options.write / "performance.md"
        begin = f"<!-- {name}: begin (written by `{prog} --write docs`) -->"
        text = update(path.read_text(encoding="utf-8"), render(found), begin, f"<!-- {name}: end -->")
        path.write_text(text, encoding="utf-8")
        for file, content in (drawings(found) if drawings else {}).items():
            (options.write / file).write_text(content, encoding="utf-8")
    return 0
