"""The command `deepthin`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from ops.errors import DeepThinError

__all__ = ["main"]

# Modules of the same names beside this one; each is loaded only when it is called, as `serve` should start fast.
_COMMANDS = ("serve", "transcribe", "models", "compress", "evaluate", "train", "bench")
_DESCRIPTION = """\
Speech recognition with compressed models.

  deepthin transcribe memo.wav     turn a recording into text
  deepthin serve                   do the same over HTTP
  deepthin models                  see which models there are
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 failed, 2 wrongly called, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        commands = [_command(name) for name in (argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS)]
        if len(commands) == 1 and hasattr(commands[0], "delegate"):
            # It brings its own parser.
            delegate: Callable[[Sequence[str]], int] = commands[0].delegate
            return delegate(argv[1:])
        args = _parser(commands).parse_args(argv)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except DeepThinError as error:
        print(f"deepthin: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has had enough; a second attempt to flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _command(name: str) -> Any:
    return import_module(f"service.cli.{name}")


def _parser(modules: Sequence[Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "deepthin",
        description=_DESCRIPTION,
        epilog="'deepthin COMMAND --help' explains one command. Models that you add live under $DEEPTHIN_HOME/models.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"deepthin {version('deepthin')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in modules:
        module.add_to(commands)
    return parser
