"""Who is let in, who is told to come back, and when."""

from __future__ import annotations

import asyncio
import io
import threading
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.recognisers.phones import PhoneRecogniser
from service.admission import Admission
from service.demo.recordings import CLIP
from service.errors import OverloadedError
from service.length import likely_seconds
from service.metrics import Metrics
from tests.service.conftest import Serve, app_of, assert_error
from tests.support import babble, encode

pytestmark = pytest.mark.anyio


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(**changes: Any) -> tuple[Admission, CollectorRegistry]:
    registry = CollectorRegistry()
    options = {"capacity": 8, "threads": 2, "thread_seconds": 60.0, "retry_after": 3, **changes}
    return Admission(Metrics(registry, instruction_set="scalar"), **options), registry


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


async def test_seconds_of_audio_fill_the_queue_too() -> None:
    admission, registry = make()
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(admission.admit(30.0))
        assert registry.get_sample_value("deepthin_queue_audio_seconds") == 120
        with pytest.raises(OverloadedError, match="120 seconds of audio"):
            admission.require_room()
    assert registry.get_sample_value("deepthin_queue_audio_seconds") == 0
    assert registry.get_sample_value("deepthin_queue_audio_capacity_seconds") == 120
    assert shed(registry, "backlog") == 1
    admission.require_room()


async def test_a_long_recording_leaves_the_other_threads_to_others() -> None:
    admission, _ = make()
    with admission.admit(600.0):
        assert admission.seconds == 60
        with admission.admit(600.0), pytest.raises(OverloadedError):
            admission.require_room()
        admission.require_room()


async def test_a_guess_is_put_right_by_the_decoder() -> None:
    admission, _ = make()
    with admission.admit(10.0), admission.admit(50.0) as place:
        place.measure(5.0)
        assert admission.seconds == 15
        place.measure(900.0)
        assert admission.seconds == 70
    assert admission.seconds == 0


async def test_the_wait_that_is_told_is_what_the_backlog_will_take() -> None:
    clock = Clock()
    admission, _ = make(thread_seconds=200.0, capacity=100, clock=clock)
    for _ in range(40):
        with admission.admit(20.0):
            clock.now += 2.0
    assert admission.retry_after() == 3
    with ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(admission.admit(9.9))
        assert admission.retry_after() == 7
        # Nothing was to be done meanwhile: that must not count as slowness.
        clock.now += 1.0
        for _ in range(34):
            stack.enter_context(admission.admit(9.9))
        with pytest.raises(OverloadedError) as caught:
            admission.require_room()
        assert caught.value.headers == {"Retry-After": "41"}


async def test_idle_time_does_not_make_the_service_look_slow() -> None:
    clock = Clock()
    admission, _ = make(capacity=100, clock=clock, retry_after=1)
    for _ in range(40):
        with admission.admit(20.0):
            clock.now += 2.0
        clock.now += 1000.0
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(admission.admit(19.9))
        assert admission.retry_after() == 6


async def test_nobody_is_told_to_wait_for_ever() -> None:
    clock = Clock()
    admission, _ = make(clock=clock)
    with admission.admit(1.0):
        clock.now += 1000.0
    with admission.admit(60.0):
        assert admission.retry_after() == 60


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


async def test_a_service_with_a_full_backlog_answers_before_it_reads_the_body(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    original = PhoneRecogniser.features

    def slow(self: PhoneRecogniser, audio: Any) -> Any:
        assert release.wait(120)
        return original(self, audio)

    read = 0

    async def body() -> Any:
        nonlocal read
        for _ in range(4):
            read += 1
            yield bytes(1000)

    clip = encode(np.tile(babble(0.5), 6))
    async with serve(queue_seconds=3.0, threads=1) as client:
        monkeypatch.setattr(PhoneRecogniser, "features", slow)
        accepted = asyncio.create_task(client.post("/transcribe", content=clip))
        scheduler = app_of(client).state.scheduler
        async with asyncio.timeout(120):
            while not scheduler.admitted:
                await asyncio.sleep(0.005)
        refused = await client.post("/transcribe", content=body())
        assert_error(refused, 503, code="overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert read == 0
        release.set()
        assert (await accepted).status_code == 200
        assert (await client.post("/transcribe", content=clip)).status_code == 200
