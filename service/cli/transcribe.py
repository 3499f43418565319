"""`deepthin transcribe`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.audio import AudioError, decode
from models.recognisers import Recogniser
from models.store import DEFAULT_ALIAS
from service.cli.common import Parsers, add_decoder, load_model


def add_to(commands: Parsers) -> None:
    """Add the parser of `transcribe`."""
    parser = commands.add_parser(
        "transcribe",
        help="turn recordings into text",
        description="Print the text of recordings: the text alone for one file, 'FILE: text' lines for several. Takes "
        "wav, flac, mp3, ogg, opus, webm, m4a and whatever else FFmpeg reads.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a recording")
    parser.add_argument(
        "--model", default=DEFAULT_ALIAS, help="name of a model, or a model's folder (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each file, with times of the words")
    add_decoder(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Transcribe each file; a file that fails does not stop the others."""
    recogniser = load_model(args.model, args.decoder)
    failed = 0
    for file in args.files:
        try:
            answer = _answer(recogniser, file)
        except OSError as error:
            failed += 1
            print(f"deepthin: error: {file}: {error.strerror}", file=sys.stderr)
        except AudioError as error:
            failed += 1
            print(f"deepthin: error: {file}: {error}", file=sys.stderr)
        else:
            if args.json:
                print(json.dumps(answer), flush=True)
            else:
                print(answer["text"] if len(args.files) == 1 else f"{file}: {answer['text']}", flush=True)
    return 1 if failed else 0


def _answer(recogniser: Recogniser, file: Path) -> dict[str, Any]:
    with file.open("rb") as data:
        audio = decode(data, sample_rate=recogniser.manifest.sample_rate)
    [transcript] = recogniser.transcribe([audio])
    return {
        "file": str(file),
        "text": transcript.text,
        "words": [asdict(word) for word in transcript.words],
        "model": recogniser.manifest.name,
        "method": recogniser.manifest.method,
        "duration_seconds": round(transcript.duration_seconds, 4),
        "processing_seconds": round(transcript.stages.total, 6),
    }
