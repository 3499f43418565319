"""`python -m service.demo [--clip recording.m4a]`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from models.catalogue import ENTRIES
from models.store import BUNDLED, ModelStore
from service.demo import recordings, report
from service.demo.measure import AnswerError, ask, variants
from service.demo.process import ServiceError, running_service


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every model answered."""
    options = _parser().parse_args(argv)
    if not ModelStore([BUNDLED]).names():
        print("No model is bundled with this version, so there is nothing to show.", file=sys.stderr)
        return 1
    try:
        chosen = _recordings(options.clip)
        _run(chosen, options.repeats)
    except (AnswerError, ServiceError, OSError, httpx.HTTPError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    return 0


def _recordings(clip: Path | None) -> list[recordings.Recording]:
    chosen = [recordings.own_clip() if clip is None else recordings.from_file(clip)]
    if data := os.environ.get("DEEPTHIN_DATA"):
        chosen += recordings.from_corpora(Path(data), each=2)
    return chosen


def _run(chosen: Sequence[recordings.Recording], repeats: int) -> None:
    results = []
    pulled = _pulled()
    with running_service(lambda waited: _progress(f"Starting the service: {waited:.0f} s"), packages=pulled) as url:
        _progress(f"The service is ready on {url}\n")
        with httpx.Client(base_url=url, trust_env=False, timeout=120.0) as client:
            models = variants(client)
            for recording in chosen:
                answers = ask(
                    client, recording, models, repeats, lambda done, of: _progress(f"Transcribing: {done} of {of}")
                )
                _progress("")
                print("\n" + report.table(recording, answers), flush=True)
                results.append((recording, answers))
    if len(results) > 1 and (rates := report.summary(results)):
        print("\n" + rates)
    print(f"\nLatency: median of {repeats} requests on this machine, one after the other. The service has stopped.")


def _pulled() -> list[Path]:
    """Published models that somebody pulled are worth showing beside the bundled ones."""
    store = ModelStore()
    return [store.folder(name) for name in ENTRIES if name in store.names()]


def _progress(text: str) -> None:
    # A terminal gets one line that is written over; a log gets only what stays.
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text.endswith("\n"):
        print(text, end="", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.demo",
        description="Start the service, send a recording to every bundled model, print what came back, stop. "
        "With DEEPTHIN_DATA set, a few real recordings from there follow.",
    )
    parser.add_argument("--clip", type=Path, help="a recording of yours instead of the bundled synthetic clip")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="requests a model (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
