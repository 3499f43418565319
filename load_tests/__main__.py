"""`python -m load_tests send|capacity|overload|job-beside|all`: load on a service that runs, or on one of its own."""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import httpx

from load_tests import tables
from load_tests.direct import DirectTransport
from load_tests.drive import Sample, closed_loop, open_loop, poisson_arrivals
from load_tests.jobs import JobsError, running_jobs
from load_tests.page import page
from load_tests.report import Report
from load_tests.scenarios import SCENARIOS, Bench, Result, ScenarioError
from load_tests.target import Clip, TargetError, check_target, mixed, own_clips
from service.demo.process import ServiceError, running_service

MAX_REQUESTS = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Put load on a service; 0 when all went as promised, 1 when not, 2 when the call is wrong."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        if options.url is not None:
            options.url = check_target(options.url, allow_remote=options.allow_remote)
        clips = [Clip.read(path) for path in options.clip] if options.clip else own_clips()
    except (TargetError, OSError) as error:
        parser.error(str(error))
    if options.command == "send" and (options.rate or 0) * options.seconds > MAX_REQUESTS:
        parser.error(f"more than {MAX_REQUESTS} requests: lower --rate or --seconds")
    try:
        with ExitStack() as stack:
            if options.url is None:
                options.url = stack.enter_context(running_service(lambda waited: None))
            return _send(options, clips) if options.command == "send" else _scenarios(options, clips)
    except (ServiceError, ScenarioError, JobsError, httpx.HTTPError, OSError) as error:
        print(f"The load test failed: {error or type(error).__name__}", file=sys.stderr)
        return 1


def _client(options: argparse.Namespace) -> httpx.AsyncClient:
    transport = DirectTransport()
    return httpx.AsyncClient(base_url=options.url, timeout=options.timeout, transport=transport, trust_env=False)


def _send(options: argparse.Namespace, clips: Sequence[Clip]) -> int:
    start = time.perf_counter()
    samples = asyncio.run(_load(options, clips))
    report = Report.of(samples, time.perf_counter() - start)
    print(json.dumps(report.to_dict(), indent=2) if options.json else report.to_text())
    return 1 if report.errors or not report.requests else 0


async def _load(options: argparse.Namespace, clips: Sequence[Clip]) -> list[Sample]:
    asks = mixed(clips, options.model or [None])
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(options))
        if options.job:
            await stack.enter_async_context(running_jobs(client, options.job, "deepthin", 0.02))
        if options.rate is not None:
            return await open_loop(client, asks, poisson_arrivals(options.rate, options.seconds, options.seed))
        return await closed_loop(client, asks, options.clients, options.seconds)


def _scenarios(options: argparse.Namespace, clips: Sequence[Clip]) -> int:
    names = list(SCENARIOS) if options.command == "all" else [options.command]
    results = asyncio.run(_run(options, clips, names))
    for result in results:
        print(f"\n{tables.render(result)}")
    print(f"\n{options.out / 'load.json'} and {options.out / 'load.html'} have the rest.")
    return 0 if all(result.kept for result in results) else 1


async def _run(options: argparse.Namespace, clips: Sequence[Clip], names: Sequence[str]) -> list[Result]:
    results = []
    async with _client(options) as client:
        bench = Bench(client, clips, os.cpu_count() or 1, options.pace, _tell, options.seed)
        for name in names:
            results.append(await SCENARIOS[name](bench))
            # At once: a run that is cut off leaves what it has found.
            _write(options, results)
    return results


def _write(options: argparse.Namespace, results: Sequence[Result]) -> None:
    machine = _machine()
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine, "results": [result.to_dict() for result in results]}
    (options.out / "load.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (options.out / "load.html").write_text(page(results, machine), encoding="utf-8")
    if options.docs is not None:
        text = options.docs.read_text(encoding="utf-8")
        options.docs.write_text(tables.into(text, results, machine), encoding="utf-8")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _machine() -> str:
    names = [platform.processor() or platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")] or names
    return f"{os.cpu_count()} cores of {names[0]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m load_tests", description="Put load on a DeepThin service.")
    commands = parser.add_subparsers(dest="command", required=True)
    send = commands.add_parser("send", help="send requests as told, and count what comes back")
    load = send.add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=_positive, help="open loop: Poisson arrivals, this many a second")
    load.add_argument("--clients", type=int, choices=range(1, 257), metavar="1..256", help="closed loop: that many")
    send.add_argument("--seconds", type=_positive, default=10.0, help="how long to send (default: %(default)s)")
    send.add_argument("--model", action="append", help="ask for this model; repeat to mix several")
    send.add_argument("--job", metavar="MODEL", help="keep compression jobs of this model running beside")
    send.add_argument("--json", action="store_true", help="print JSON")
    every = [send]
    descriptions = {name: (scenario.__doc__ or "").split("\n")[0] for name, scenario in SCENARIOS.items()}
    for name, text in {**descriptions, "all": "All of these, one after the other."}.items():
        command = commands.add_parser(name, help=text.replace("%", "%%"), description=text.replace("%", "%%"))
        command.add_argument("--pace", type=_positive, default=1.0, help="stretch all durations (default: %(default)s)")
        command.add_argument("--out", type=Path, default=Path("build/load"), help="for load.json and load.html")
        command.add_argument("--docs", type=Path, help="Markdown file whose tables are written anew")
        every.append(command)
    for command in every:
        command.add_argument("--url", help="the service (default: start one, with a home of its own, and stop it)")
        command.add_argument("--clip", type=Path, action="append", help="a recording; repeat for several")
        command.add_argument("--timeout", type=_positive, default=60.0, help="seconds for one answer")
        command.add_argument("--seed", type=int, default=0, help="of the arrival times (default: %(default)s)")
        command.add_argument("--allow-remote", action="store_true", help="allow a target other than this machine")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
