"""`deepthin evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from models.evaluation import evaluate
from service.cli.common import Parsers, add_decoder, load_model


def add_to(commands: Parsers) -> None:
    """Add the parser of `evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="measure the accuracy of a model",
        description="Transcribe a corpus and count errors, ignoring case. Needs jiwer: pip install 'deepthin[eval]'.",
        epilog="The corpus is a folder with manifest.tsv, a table with tabs and a header naming at least the columns "
        "utterance, path (of the recording, relative to the folder) and transcript.",
    )
    parser.add_argument("model", metavar="MODEL", help="name of a model ('default' works), or a model's folder")
    parser.add_argument("--corpus", required=True, metavar="DIR", help="folder with manifest.tsv and the recordings")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N utterances")
    parser.add_argument("--json", action="store_true", help="JSON; rates are ratios, .05 for five per cent")
    add_decoder(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score a model."""
    recogniser = load_model(args.model, args.decoder)
    result = evaluate(recogniser, args.corpus, args.limit, progress=_progress if sys.stderr.isatty() else None)
    if args.json:
        print(json.dumps(asdict(result)))
    else:
        print(f"model             {result.model} ({result.method})")
        print(f"word error rate   {result.wer:.2%} of {result.words} words")
        print(f"character errors  {result.cer:.2%}")
        print(f"real-time factor  {result.rtf:.3f} (seconds of work by second of audio)")
        print(f"utterances        {result.utterances}")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done}/{total} utterances", end=end, file=sys.stderr, flush=True)
