"""The command `deepthin`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from ops.errors import DeepThinError
from service.cli import bench, compress, evaluate, models, serve, train, transcribe

__all__ = ["main"]

_COMMANDS = (
    serve.add_to,
    transcribe.add_to,
    models.add_to,
    compress.add_to,
    evaluate.add_to,
    train.add_to,
    bench.add_to,
)
# These bring their own parsers, loaded only when they are called.
_DELEGATES: dict[str, Callable[[Sequence[str]], int]] = {
    compress.NAME: compress.delegate,
    train.NAME: train.delegate,
    bench.NAME: bench.delegate,
}
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
        if argv and argv[0] in _DELEGATES:
            return _DELEGATES[argv[0]](argv[1:])
        args = _parser().parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "deepthin",
        description=_DESCRIPTION,
        epilog="'deepthin COMMAND --help' explains one command. Models that you add live under $DEEPTHIN_HOME/models.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"deepthin {version('deepthin')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_to in _COMMANDS:
        add_to(commands)
    return parser
