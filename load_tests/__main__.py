"""`python -m load_tests --url http://127.0.0.1:8000 --rate 5 --seconds 30 --clip clip.flac`."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from load_tests.drive import Sample, closed_loop, open_loop, poisson_arrivals
from load_tests.report import Report
from load_tests.target import Clip, TargetError, check_target

MAX_REQUESTS = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run one load test; 0 unless a request failed for another reason than shedding (1) or the call is wrong (2)."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        url = check_target(options.url, allow_remote=options.allow_remote)
        clips = [Clip.read(path) for path in options.clip]
    except (TargetError, OSError) as error:
        parser.error(str(error))
    if options.rate is not None and options.rate * options.seconds > MAX_REQUESTS:
        parser.error(f"more than {MAX_REQUESTS} requests: lower --rate or --seconds")
    start = time.perf_counter()
    samples = asyncio.run(_run(options, url, clips))
    report = Report.of(samples, time.perf_counter() - start)
    print(json.dumps(report.to_dict(), indent=2) if options.json else report.to_text())
    return 1 if report.errors or not report.requests else 0


async def _run(options: argparse.Namespace, url: str, clips: Sequence[Clip]) -> list[Sample]:
    # No pool limit: a request that waits here for a connection would measure this client, not the service.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=options.timeout, limits=limits, trust_env=False) as client:
        if options.rate is not None:
            arrivals = poisson_arrivals(options.rate, options.seconds, options.seed)
            return await open_loop(client, clips, arrivals, options.model)
        return await closed_loop(client, clips, options.clients, options.seconds, options.model)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m load_tests", description="Put load on a running DeepThin service.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=_positive, help="open loop: Poisson arrivals, this many a second")
    load.add_argument("--clients", type=int, choices=range(1, 257), metavar="1..256", help="closed loop: that many")
    parser.add_argument("--seconds", type=_positive, default=10.0, help="how long to send (default: %(default)s)")
    parser.add_argument("--clip", type=Path, required=True, action="append", help="a recording; repeat for several")
    parser.add_argument("--model", help="the model to ask for (default: the service's default)")
    parser.add_argument("--timeout", type=_positive, default=60.0, help="seconds for one answer (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the arrival times (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--allow-remote", action="store_true", help="allow a target other than this machine")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
