"""The load generator against an in-process application that answers as the service would."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from load_tests.__main__ import main
from load_tests.drive import Sample, closed_loop, open_loop, poisson_arrivals, stream_arrivals
from load_tests.report import Report, percentile
from load_tests.target import Ask, Clip, TargetError, check_target, mixed, own_clips
from models.audio import decode

CLIP = Clip("clip.wav", b"RIFF", "audio/wav")


class Dummy:
    """An application that answers with the statuses it is given, and notes what it saw."""

    def __init__(self, statuses: Iterator[int]) -> None:
        self.statuses = statuses
        self.requests: list[tuple[str, bytes, str]] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def __call__(self, scope, receive, send) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        message = await receive()
        self.requests.append((scope["path"], message["body"], scope["query_string"].decode()))
        await asyncio.sleep(0.002)
        body = json.dumps({"text": "yes", "duration_seconds": 2.5}).encode()
        await send({"type": "http.response.start", "status": next(self.statuses), "headers": []})
        self.in_flight -= 1
        await send({"type": "http.response.body", "body": body})


def run(app: Dummy, work: Callable[[httpx.AsyncClient], Awaitable[list[Sample]]]) -> list[Sample]:
    async def session() -> list[Sample]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await work(client)

    return asyncio.run(session())


def test_open_loop_sends_every_arrival_and_counts_each_outcome():
    app = Dummy(itertools.cycle([200, 200, 503, 429, 500]))
    arrivals = [index * 0.001 for index in range(20)]
    samples = run(app, lambda client: open_loop(client, [Ask(CLIP, "tiny")], arrivals))
    report = Report.of(samples, seconds=4.0)
    assert (report.requests, report.ok, report.shed, report.errors) == (20, 8, 8, 4)
    assert report.audio_seconds_per_second == pytest.approx(8 * 2.5 / 4.0)
    assert report.details == {"200": 8, "429": 4, "500": 4, "503": 4}
    assert app.requests == [("/transcribe", b"RIFF", "model=tiny")] * 20


def test_open_loop_does_not_wait_for_answers():
    app = Dummy(itertools.repeat(200))
    run(app, lambda client: open_loop(client, [Ask(CLIP)], [0.0] * 6))
    assert app.most_in_flight == 6


def test_what_is_sent_late_is_told():
    app = Dummy(itertools.repeat(200))

    async def load(client: httpx.AsyncClient) -> list[Sample]:
        # Nothing else gets its turn meanwhile: a generator that is too slow, in small.
        asyncio.get_running_loop().call_later(0.01, time.sleep, 0.3)
        return await open_loop(client, [Ask(CLIP)], [0.0, 0.1])

    samples = run(app, load)
    assert samples[1].lag_seconds > 0.1
    assert all(0 <= sample.lag_seconds < sample.latency_seconds for sample in samples)
    lag = Report.of(samples, seconds=1.0).lag_p99
    assert lag is not None and lag > 0.1


def test_closed_loop_keeps_as_many_requests_in_flight_as_there_are_clients():
    app = Dummy(itertools.repeat(200))
    other = Clip("other.ogg", b"OggS", "audio/ogg")
    samples = run(app, lambda client: closed_loop(client, mixed([CLIP, other]), clients=3, seconds=0.05))
    assert app.most_in_flight == 3
    assert len(samples) == len(app.requests) >= 3
    assert {body for _, body, _ in app.requests} == {b"RIFF", b"OggS"}


def test_a_lost_connection_is_an_error():
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async def session() -> list[Sample]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://test") as client:
            return await open_loop(client, [Ask(CLIP)], [0.0])

    (sample,) = asyncio.run(session())
    assert (sample.outcome, sample.detail, sample.audio_seconds) == ("error", "ConnectError", 0.0)


def test_poisson_arrivals_follow_the_seed_and_the_rate():
    arrivals = poisson_arrivals(rate=50, seconds=200, seed=1)
    assert arrivals == poisson_arrivals(rate=50, seconds=200, seed=1)
    assert arrivals != poisson_arrivals(rate=50, seconds=200, seed=2)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 0 and arrivals[-1] < 200
    assert abs(len(arrivals) - 10_000) < 400  # four standard deviations


def test_streams_send_once_a_period_each():
    arrivals = stream_arrivals(streams=5, period=2.0, seconds=8.0, seed=1)
    assert arrivals == sorted(arrivals)
    assert len(arrivals) == 5 * 4
    assert arrivals[0] >= 0 and arrivals[-1] < 8
    first = arrivals[:5]
    assert arrivals == pytest.approx(sorted(due + 2.0 * turn for due in first for turn in range(4)))


def test_recordings_and_models_are_mixed():
    other = Clip("other.ogg", b"OggS", "audio/ogg")
    asks = mixed([CLIP, other], ["a", "b", "c"])
    assert {(ask.clip.name, ask.model) for ask in asks} == {
        (name, model) for name in ("clip.wav", "other.ogg") for model in ("a", "b", "c")
    }
    assert [ask.model for ask in asks] == ["a", "b", "c", "a", "b", "c"]
    assert asks[0].clip is not asks[1].clip


def test_our_own_recordings_have_three_lengths():
    seconds = sorted(round(decode(clip.data).seconds, 1) for clip in own_clips())
    assert seconds == [2.0, 4.0, 6.9]


@pytest.mark.parametrize(
    ("values", "q", "expected"), [([], 50, None), ([3.0], 99, 3.0), ([4, 1, 3, 2], 50, 2), (range(1, 101), 95, 95)]
)
def test_percentile_is_the_nearest_rank(values, q, expected):
    assert percentile(list(values), q) == expected


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "http://localhost", "http://[::1]:9", "https://127.3.2.1"])
def test_loopback_targets_are_allowed(url):
    assert check_target(url, allow_remote=False) == url.rstrip("/")


@pytest.mark.parametrize("url", ["http://192.0.2.7:8000", "http://example.test", "http://localhost.example.test"])
def test_other_machines_are_refused_unless_asked_for(url):
    with pytest.raises(TargetError, match="not this machine"):
        check_target(url, allow_remote=False)
    assert check_target(url, allow_remote=True) == url


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", ""])
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(TargetError, match="not an http"):
        check_target(url, allow_remote=True)


def test_the_command_reports_a_service_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"RIFF")
    # Port 9 of loopback (discard) has no listener.
    status = main(
        ["send", "--url", "http://127.0.0.1:9", "--clients", "1", "--seconds", "0.01", "--clip", str(clip), "--json"]
    )
    report = json.loads(capsys.readouterr().out)
    assert status == 1
    assert report["ok"] == 0
    assert report["errors"] == report["requests"] > 0
    assert report["latency_p50"] is None


def test_the_command_refuses_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"RIFF")
    with pytest.raises(SystemExit) as stop:
        main(["send", "--url", "http://192.0.2.7", "--rate", "1", "--clip", str(clip)])
    assert stop.value.code == 2
    assert "not this machine" in capsys.readouterr().err
