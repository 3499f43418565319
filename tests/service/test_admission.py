"""Who is let in, who is told to come back, and when."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.recognisers.phones import PhoneRecogniser
from service.admission import Admission
from service.demo.recordings import CLIP
from service.errors import OverloadedError
from service.length import likely_seconds
from service.metrics import Metrics
from service.speeds import Speeds
from tests.service.conftest import Serve, app_of, assert_error
from tests.support import babble, encode

pytestmark = pytest.mark.anyio


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Model:
    """Stands for a model: whatever can be forgotten."""


def make(**changes: Any) -> tuple[Admission, CollectorRegistry]:
    registry = CollectorRegistry()
    options = {"capacity": 8, "threads": 2, "wait_seconds": 1.0, "burst": 0, "retry_after": 3, **changes}
    return Admission(Metrics(registry, instruction_set="scalar"), **options), registry


def answer_calmly(admission: Admission, model: Model, count: int, work_seconds: float) -> None:
    """Answer recordings of five seconds, one after the other."""
    for _ in range(count):
        with admission.admit() as place:
            place.done(model, 5.0, work_seconds)


def shed(registry: CollectorRegistry, reason: str) -> float | None:
    return registry.get_sample_value("deepthin_requests_shed_total", {"reason": reason})


async def test_a_full_queue_refuses_and_recovers() -> None:
    admission, registry = make(capacity=2)
    with admission.admit():
        with admission.admit():
            for attempt in (admission.require_room, admission.admit().__enter__):
                with pytest.raises(OverloadedError, match="all 2 places") as caught:
                    attempt()
                assert caught.value.status == 503
                assert caught.value.headers == {"Retry-After": "3"}
            assert registry.get_sample_value("deepthin_queue_admitted") == 2
        admission.require_room()
    assert registry.get_sample_value("deepthin_queue_admitted") == 0
    assert shed(registry, "queue_full") == 2


async def test_an_expected_wait_fills_the_queue_too() -> None:
    admission, registry = make()
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(admission.admit()).expect(0.5)
        assert registry.get_sample_value("deepthin_queue_wait_seconds") == 1.0
        with pytest.raises(OverloadedError, match=r"1\.0 seconds"):
            admission.require_room()
    assert registry.get_sample_value("deepthin_queue_wait_seconds") == 0
    assert registry.get_sample_value("deepthin_queue_wait_limit_seconds") == 1.0
    assert shed(registry, "backlog") == 1
    admission.require_room()


async def test_nobody_is_refused_while_a_thread_is_free() -> None:
    admission, _ = make(wait_seconds=0.0)
    with admission.admit() as first:
        first.expect(600.0)
        with admission.admit(), pytest.raises(OverloadedError):
            admission.require_room()
        admission.require_room()


async def test_a_burst_of_usual_recordings_may_wait_however_slow_the_machine_is() -> None:
    admission, _ = make(wait_seconds=0.5, burst=6, threads=1, capacity=100)
    answer_calmly(admission, Model(), 200, 3.0)
    assert admission.longest_wait == pytest.approx(18.0, rel=0.01)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(admission.admit())
        with pytest.raises(OverloadedError):
            for _ in range(2):
                stack.enter_context(admission.admit())


async def test_a_long_recording_leaves_the_other_threads_to_others() -> None:
    admission, _ = make()
    with admission.admit() as long:
        long.expect(600.0)
        assert admission.wait == 0.5
        with admission.admit() as other:
            other.expect(0.4)
            admission.require_room()
            other.expect(600.0)
            with pytest.raises(OverloadedError):
                admission.require_room()


async def test_a_guess_is_put_right() -> None:
    admission, _ = make(wait_seconds=100.0)
    with admission.admit() as first, admission.admit() as place:
        first.expect(1.0)
        place.expect(50.0)
        place.expect(5.0)
        assert admission.wait == 3
        place.expect(900.0)
        assert admission.wait == 50.5
    assert admission.wait == 0


async def test_who_sends_slowly_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.admission._UPLOAD_SECONDS", 0.001)
    admission, registry = make(capacity=1, threads=1)
    with ExitStack() as stack:
        slow = stack.enter_context(admission.admit())
        async with asyncio.timeout(120):
            while admission.admitted > 0:
                await asyncio.sleep(0.001)
        assert admission.wait == 0
        with admission.admit() as quick:
            quick.arrived()
            await asyncio.sleep(0.02)
            assert admission.admitted == 1
            with pytest.raises(OverloadedError, match="places"):
                slow.arrived()
        slow.arrived()
        assert admission.admitted == 1
        assert admission.wait > 0
    assert admission.admitted == 0
    assert shed(registry, "queue_full") == 1


async def test_the_wait_that_is_told_is_what_is_left_to_do() -> None:
    admission, _ = make(capacity=100, wait_seconds=200.0)
    with ExitStack() as stack:
        stack.enter_context(admission.admit()).expect(2.0)
        assert admission.retry_after() == 3
        for _ in range(4):
            stack.enter_context(admission.admit()).expect(3.0)
        assert admission.retry_after() == 7
        for _ in range(60):
            stack.enter_context(admission.admit()).expect(3.0)
        assert admission.retry_after() == 60


async def test_threads_that_pause_between_pieces_of_work_make_the_wait_longer() -> None:
    clock = Clock()
    admission, _ = make(threads=1, clock=clock, capacity=100, wait_seconds=100.0)
    model = Model()
    for _ in range(200):
        # Nothing waits: that the thread pauses is not for want of time.
        with admission.admit() as place:
            clock.now += 5.0
            place.done(model, 10.0, 1.0)
    assert admission.speeds.overhead == 1.0
    with admission.admit(), admission.admit() as second:
        for _ in range(200):
            clock.now += 1.5
            second.done(model, 10.0, 1.0)
        second.expect(10.0)
        assert admission.wait > 1.4 * 10


async def test_crowds_wait_half_as_long_as_what_chance_heaps_up() -> None:
    clock = Clock()
    admission, registry = make(threads=1, capacity=100, wait_seconds=0.0, burst=10, clock=clock)
    answer_calmly(admission, Model(), 200, 0.1)
    assert admission.longest_wait == pytest.approx(1.0, rel=0.01)

    def let_in(pause: float) -> int:
        with ExitStack() as stack:
            for count in range(50):
                clock.now += pause
                try:
                    admission.come()
                    stack.enter_context(admission.admit())
                except OverloadedError:
                    return count
        raise AssertionError

    # A little faster than they can be answered, and ten times as fast.
    assert let_in(0.09) == 10
    assert admission.limit == admission.longest_wait
    # The first of a crowd cannot be told from anybody else.
    clock.now += 10.0
    assert let_in(0.01) == 7
    assert let_in(0.01) == 5
    assert registry.get_sample_value("deepthin_queue_wait_limit_seconds") == pytest.approx(0.5, rel=0.01)
    clock.now += 1.0
    assert admission.limit == admission.longest_wait


async def test_nothing_usual_is_learnt_from_a_crowd() -> None:
    clock = Clock()
    admission, _ = make(threads=1, capacity=100, burst=4, wait_seconds=0.0, clock=clock)
    model = Model()
    answer_calmly(admission, model, 100, 0.5)
    usual = admission.speeds.usual_work
    for _ in range(100):
        admission.come()
        with admission.admit() as place:
            place.done(model, 5.0, 2.0)
        clock.now += 0.001
    # But for the first of the crowd.
    assert admission.speeds.usual_work < 2 * usual


async def test_what_is_usual_is_not_learnt_from_an_overloaded_service() -> None:
    admission, _ = make(threads=1, capacity=100, burst=4, wait_seconds=0.1)
    model = Model()
    for _ in range(100):
        with admission.admit() as place:
            place.expect(0.0)
            place.done(model, 5.0, 0.5)
    usual = admission.longest_wait
    assert usual == pytest.approx(2.0, rel=0.01)
    with admission.admit() as place:
        place.expect(usual)
        for _ in range(100):
            place.done(model, 5.0, 2.0)
    assert admission.longest_wait == usual
    assert admission.speeds.expected_work(model, 5.0) == pytest.approx(2.0, rel=0.05)


async def test_what_is_learnt_of_a_model_is_forgotten_with_it() -> None:
    speeds = Speeds()
    slow, fast = Model(), Model()
    for _ in range(50):
        speeds.learn(slow, 10.0, 4.0, calm=True)
        speeds.learn(fast, 10.0, 0.1, calm=True)
    assert speeds.expected_work(slow, 1.0) == pytest.approx(0.4)
    assert speeds.expected_work(fast, 1.0) == pytest.approx(0.01)
    assert speeds.expected_work(Model(), 1.0) == speeds.expected_work(None, 1.0) == pytest.approx(0.063, rel=0.3)
    speeds.learn(fast, 0.0, 1.0, calm=True)
    assert speeds.expected_work(fast, 1.0) == pytest.approx(0.01)
    del slow
    gc.collect()
    assert len(speeds._rates) == 1


async def test_a_single_long_recording_hardly_changes_what_is_usual() -> None:
    speeds = Speeds()
    for _ in range(100):
        speeds.learn(speeds, 4.0, 0.2, calm=True)
    speeds.learn(speeds, 600.0, 30.0, calm=True)
    assert 0.2 < speeds.usual_work < 0.3


@pytest.mark.parametrize(
    ("data", "seconds", "error"),
    [
        (encode(babble(2.5)), 2.5, 0.01),
        (encode(babble(2.5), container="flac", codec="flac"), 2.5, 0.001),
        (CLIP.read_bytes(), 6.89, 0.2),
        (b"", 0.0, 0.0),
        (b"RIFF", 0.0, 0.01),
        (b"fLaC" + bytes(60), 0.016, 0.001),
        (b"RIFF\0\0\0\0WAVEfmt " + bytes(48), 0.016, 0.001),
    ],
    ids=["wav", "flac", "ogg", "empty", "cut", "flac of zeros", "wav of zeros"],
)
async def test_the_length_is_guessed_from_the_head(data: bytes, seconds: float, error: float) -> None:
    source = io.BytesIO(data)
    assert likely_seconds(source) == pytest.approx(seconds, abs=error)
    assert source.tell() == 0


def slow_features(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Have the first stage of every recording wait for the event."""
    release = threading.Event()
    original = PhoneRecogniser.features

    def slow(self: PhoneRecogniser, audio: Any) -> Any:
        assert release.wait(120)
        return original(self, audio)

    monkeypatch.setattr(PhoneRecogniser, "features", slow)
    return release


async def until_admitted(client: httpx.AsyncClient, count: int) -> None:
    scheduler = app_of(client).state.scheduler
    async with asyncio.timeout(120):
        while scheduler.admitted != count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("path", ["/transcribe", "/compare?models=tiny-dense,tiny-thin"])
async def test_a_service_with_a_full_backlog_answers_before_it_reads_the_body(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    read = 0

    async def body() -> Any:
        nonlocal read
        for _ in range(4):
            read += 1
            yield bytes(1000)

    clip = encode(np.tile(babble(0.5), 6))
    async with serve(queue_wait_seconds=0, queue_burst=0, threads=1) as client:
        release = slow_features(monkeypatch)
        accepted = asyncio.create_task(client.post(path, content=clip))
        await until_admitted(client, 1)
        refused = await client.post(path, content=body())
        assert_error(refused, 503, code="overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-request-id"]
        assert read == 0
        release.set()
        assert (await accepted).status_code == 200
        assert (await client.post(path, content=clip)).status_code == 200
        labels = {"route": path.partition("?")[0], "verb": "POST", "status": "503"}
        assert app_of(client).state.metrics.registry.get_sample_value("deepthin_requests_total", labels) == 1


async def test_many_that_come_at_once_get_no_more_places_than_there_are(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(queue_wait_seconds=0, queue_burst=0, threads=2) as client:
        release = slow_features(monkeypatch)
        clip = encode(babble(0.5))
        posts = [asyncio.create_task(client.post("/transcribe", content=clip)) for _ in range(20)]
        async with asyncio.timeout(120):
            while sum(post.done() for post in posts) < 18:
                await asyncio.sleep(0.005)
        release.set()
        statuses = sorted(response.status_code for response in await asyncio.gather(*posts))
        assert statuses == [200] * 2 + [503] * 18


async def test_an_idle_service_takes_one_recording_of_any_length_and_a_burst_of_a_few(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(threads=1, max_seconds=60.0, queue_wait_seconds=0.2) as client:
        speeds = app_of(client).state.scheduler.speeds
        # All that it has ever seen was short: the long one makes hundreds of times as much work.
        model = Model()
        for _ in range(50):
            speeds.learn(model, 1.0, 0.05, calm=True)
        long = encode(np.tile(babble(1.0), 50))
        assert (await client.post("/transcribe", content=long)).status_code == 200
        release = slow_features(monkeypatch)
        clip = encode(babble(0.5))
        burst = [asyncio.create_task(client.post("/transcribe", content=clip)) for _ in range(8)]
        await until_admitted(client, 8)
        release.set()
        assert {response.status_code for response in await asyncio.gather(*burst)} == {200}


async def test_requests_that_fail_give_their_places_back(client: httpx.AsyncClient) -> None:
    for content, status in ((b"", 400), (b"not audio at all", 415)):
        assert (await client.post("/transcribe", content=content)).status_code == status
    scheduler = app_of(client).state.scheduler
    assert scheduler.admitted == 0
    assert app_of(client).state.metrics.registry.get_sample_value("deepthin_queue_wait_seconds") == 0
