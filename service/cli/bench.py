"""`deepthin bench`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from service.cli.common import Parsers

_HELP = "measure the speed of the kernels on this machine"


def add_to(commands: Parsers) -> None:
    """Add the entry in the list of commands; the arguments belong to the delegate."""
    commands.add_parser("bench", help=_HELP, add_help=False)


def delegate(argv: Sequence[str]) -> int:
    """Run the benchmark that is named first with the arguments after its name."""
    parser = argparse.ArgumentParser("deepthin bench", description=f"Benchmarks: {_HELP}.")
    parser.add_argument(
        "benchmark",
        choices=("kernels", "paths", "recurrent", "formats", "models", "coders", "compression"),
        help="kernels: DeepThin matrices against ONNX Runtime's own; paths: the ways to a product, "
        "and the one that is chosen; recurrent: GRU and LSTM layers; "
        "formats: the other stored matrices; models: whole networks, the paper's two; "
        "coders: size and speed of the entropy coders; compression: the table of all methods at several sizes (hours)",
    )
    chosen = parser.parse_args(argv[:1]).benchmark
    if chosen == "compression":
        from models.compression import table

        return table.main(argv[1:])
    if chosen == "models":
        from models import speed

        return speed.main(argv[1:])
    from ops.benchmarks import coders, formats, kernels, paths, recurrent

    benchmarks = {
        "kernels": kernels.main, "paths": paths.main, "recurrent": recurrent.main, "formats": formats.main,
        "coders": coders.main,
    }  # fmt: skip
    return benchmarks[chosen](list(argv[1:]))
