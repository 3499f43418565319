"""`deepthin compress`, which brings its own parser, loaded on demand."""

from __future__ import annotations

from collections.abc import Sequence

from service.cli.common import Parsers


def add_to(commands: Parsers) -> None:
    """Add the entry in the list of commands; the arguments belong to the delegate."""
    commands.add_parser(
        "compress", help="compress a network by any method and compare it with its parent", add_help=False
    )


def delegate(argv: Sequence[str]) -> int:
    """Run the compression with the arguments after `compress`."""
    from models.compression import cli

    return cli.main(list(argv))
