"""`deepthin serve`."""

from __future__ import annotations

import argparse
import gc
from typing import TYPE_CHECKING, Any

from ops.errors import DeepThinError

if TYPE_CHECKING:
    from service.cli.common import Parsers
    from service.settings import Settings


class SettingsError(DeepThinError, ValueError):
    """A setting that cannot be used."""


def add_to(commands: Parsers) -> None:
    """Add the parser of `serve`."""
    parser = commands.add_parser(
        "serve",
        help="answer over HTTP",
        description="Start the HTTP service: POST a recording to /transcribe and get its text. Models load in the "
        "background; GET /readyz tells when the default one is ready. Documentation is at /docs.",
        epilog="Every setting can also be given as an environment variable, such as DEEPTHIN_PORT, "
        "DEEPTHIN_QUEUE_LENGTH, DEEPTHIN_MAX_SECONDS or DEEPTHIN_API_KEYS; options here win.",
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1; 0.0.0.0 for every network)")
    parser.add_argument("--port", type=int, help="port to listen on (8000)")
    parser.add_argument("--model", action="append", metavar="NAME", help="host only this model; may be repeated")
    parser.add_argument("--threads", type=int, help="threads for work on audio (one for each core)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="what to log (info)")
    parser.add_argument("--log-format", choices=("auto", "json", "text"), help="text on a terminal, else json (auto)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    # What is loaded now stays: looking for garbage in it, again and again, took an eighth of the start.
    gc.disable()
    from service import logs
    from service.app import create_app
    from service.server import Server

    settings = _settings(args)
    logs.configure(settings.log_level, settings.log_format)
    server = Server(create_app(settings), settings)
    gc.freeze()
    gc.enable()
    server.run()
    return 0 if server.started else 1


def _settings(args: argparse.Namespace) -> Settings:
    from pydantic import ValidationError

    from service.settings import Settings

    given: dict[str, Any] = {
        "host": args.host,
        "port": args.port,
        "models": args.model and tuple(args.model),
        "threads": args.threads,
        "log_level": args.log_level,
        "log_format": args.log_format,
    }
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise SettingsError(f"setting DEEPTHIN_{name.upper()}: {problem['msg']}") from error
