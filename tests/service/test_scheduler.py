"""Batching, cancellation and draining."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.admission import Admission
from service.errors import OverloadedError
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.turns import take_turn
from tests.service.conftest import Serve, app_of, assert_error
from tests.support import babble, encode

pytestmark = pytest.mark.anyio


def make(**changes: Any) -> tuple[Scheduler, CollectorRegistry]:
    registry = CollectorRegistry()
    metrics = Metrics(registry, instruction_set="scalar")
    admission = Admission(metrics, capacity=8, threads=2, wait_seconds=60, burst=0, retry_after=3)
    options = {"threads": 2, "batch_size": 4, "batch_wait": 0.01, **changes}
    return Scheduler(metrics, admission, **options), registry


class Gate:
    """Batch work that waits to be let through, and remembers its batches."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.batches.append(list(items))
        assert self.open.wait(120)
        return [item * 10 for item in items]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


async def test_items_of_a_lane_share_batches_of_bounded_size() -> None:
    scheduler, _ = make(threads=1, batch_wait=0.05)
    gate = Gate()
    gate.open.set()
    answers = await asyncio.gather(*(scheduler.submit("lane", number, gate) for number in range(10)))
    assert [answer.value for answer in answers] == [10 * number for number in range(10)]
    assert [len(batch) for batch in gate.batches] == [4, 4, 2]
    assert sum(answer.first for answer in answers) == 3
    assert {answer.batch_size for answer in answers} == {4, 2}
    await scheduler.close(1)


async def test_lanes_do_not_mix() -> None:
    scheduler, _ = make(batch_wait=0.05)
    gate = Gate()
    gate.open.set()
    await asyncio.gather(*(scheduler.submit(number % 2, number, gate) for number in range(8)))
    assert sorted(map(sorted, gate.batches)) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    await scheduler.close(1)


async def test_a_lonely_item_does_not_wait_for_ever() -> None:
    scheduler, _ = make(batch_size=64)
    gate = Gate()
    gate.open.set()
    answer = await asyncio.wait_for(scheduler.submit("lane", 1, gate), 120)
    assert (answer.value, answer.batch_size) == (10, 1)
    await scheduler.close(1)


async def test_the_longest_waiting_lane_goes_first() -> None:
    scheduler, _ = make(threads=1, batch_wait=0.0)
    gate = Gate()
    first = asyncio.create_task(scheduler.submit("a", 0, gate))
    await until(lambda: gate.batches)
    others = [asyncio.create_task(scheduler.submit(lane, item, gate)) for lane, item in (("b", 1), ("a", 2), ("c", 3))]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *others)
    assert gate.batches == [[0], [1], [2], [3]]
    await scheduler.close(1)


async def test_a_request_goes_on_before_later_ones_begin() -> None:
    scheduler, _ = make(threads=1, batch_wait=0.0)
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def stage(name: str) -> str:
        # As long as the loop needs to ask for what comes after the stage before.
        for _ in range(20):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(120)
        order.append(name)
        return name

    def infer(items: Sequence[str]) -> list[str]:
        return [stage(item) for item in items]

    async def request(name: str) -> None:
        take_turn()
        await scheduler.run(stage, f"{name}: decode")
        await scheduler.run(stage, f"{name}: features")
        await scheduler.submit(object(), f"{name}: infer", infer)
        await scheduler.run(stage, f"{name}: words")

    await asyncio.gather(*(request(name) for name in "abc"))
    # While the loop asks for what comes next of a, the thread does not stand still: it goes on with b. But not with c.
    assert order[:5] == ["a: decode", "b: decode", "a: features", "b: features", "a: infer"]
    assert order.index("a: words") < order.index("c: features")
    await scheduler.close(1)


async def test_depth_counts_those_that_wait() -> None:
    scheduler, registry = make(threads=1, batch_size=1)
    gate = Gate()
    tasks = [asyncio.create_task(scheduler.submit("lane", number, gate)) for number in range(5)]
    await until(lambda: gate.batches)
    assert registry.get_sample_value("deepthin_queue_depth") == 4
    gate.open.set()
    await asyncio.gather(*tasks)
    assert registry.get_sample_value("deepthin_queue_depth") == 0
    await scheduler.close(1)


async def test_cancelled_items_are_never_worked_on() -> None:
    scheduler, registry = make(threads=1, batch_size=1)
    gate = Gate()
    running = asyncio.create_task(scheduler.submit("lane", 0, gate))
    await until(lambda: gate.batches)
    waiting = [asyncio.create_task(scheduler.submit("lane", number, gate)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    assert registry.get_sample_value("deepthin_queue_depth") == 2
    gate.open.set()
    await asyncio.gather(running, waiting[0], waiting[2])
    assert gate.batches == [[0], [1], [3]]
    await scheduler.close(1)


async def test_failure_hits_only_the_item_at_fault() -> None:
    scheduler, _ = make(batch_wait=0.05)

    def work(items: Sequence[int]) -> list[int]:
        if 2 in items:
            raise ValueError("two")
        return list(items)

    answers = await asyncio.gather(
        *(scheduler.submit("lane", number, work) for number in range(4)), return_exceptions=True
    )
    assert [getattr(answer, "value", None) for answer in answers] == [0, 1, None, 3]
    assert isinstance(answers[2], ValueError)
    await scheduler.close(1)


async def test_cancelled_single_work_holds_its_caller_until_the_thread_is_done() -> None:
    scheduler, _ = make(threads=1)
    gate = Gate()
    task = asyncio.create_task(scheduler.run(gate, [1]))
    await until(lambda: gate.batches)
    task.cancel()
    await asyncio.sleep(0.02)
    assert not task.done()
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await scheduler.close(1)


async def test_closing_lets_the_admitted_finish_and_refuses_others() -> None:
    scheduler, registry = make(threads=1)
    gate = Gate()

    async def request() -> Any:
        with scheduler.admit():
            return (await scheduler.submit("lane", 1, gate)).value

    accepted = asyncio.create_task(request())
    await until(lambda: gate.batches)
    closing = asyncio.create_task(scheduler.close(120))
    await asyncio.sleep(0.02)
    assert not closing.done()
    with pytest.raises(OverloadedError, match="shutting down"):
        scheduler.come()
    gate.open.set()
    assert await accepted == 10
    await asyncio.wait_for(closing, 120)
    assert registry.get_sample_value("deepthin_requests_shed_total", {"reason": "shutting_down"}) == 1


async def test_closing_gives_up_after_its_time() -> None:
    scheduler, _ = make(threads=1, batch_size=1)
    gate = Gate()

    async def request(number: int) -> Any:
        with scheduler.admit():
            return (await scheduler.submit("lane", number, gate)).value

    tasks = [asyncio.create_task(request(number)) for number in range(3)]
    await until(lambda: gate.batches)
    await asyncio.wait_for(scheduler.close(0.05), 120)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert gate.batches == [[0]]
    gate.open.set()


async def test_overloaded_service_answers_503_and_stays_healthy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.recognisers.phones import PhoneRecogniser

    clip = encode(babble(0.5))
    release = threading.Event()
    original = PhoneRecogniser.features

    def slow(self: PhoneRecogniser, audio: Any) -> Any:
        assert release.wait(120)
        return original(self, audio)

    async with serve(queue_length=2, retry_after_seconds=7) as client:
        monkeypatch.setattr(PhoneRecogniser, "features", slow)
        accepted = [asyncio.create_task(client.post("/transcribe", content=clip)) for _ in range(2)]
        scheduler = app_of(client).state.scheduler
        await until(lambda: scheduler.admitted == 2)
        for _ in range(3):
            refused = await client.post("/transcribe", content=clip)
            assert_error(refused, 503, code="overloaded")
            assert refused.headers["retry-after"] == "7"
        for path in ("/livez", "/readyz", "/metrics", "/models"):
            assert (await client.get(path)).status_code == 200
        release.set()
        assert [response.status_code for response in await asyncio.gather(*accepted)] == [200, 200]
        assert (await client.post("/transcribe", content=clip)).status_code == 200


async def test_client_that_goes_away_frees_its_place(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of a client that closed its connection is dropped at the next stage."""
    from models.recognisers.phones import PhoneRecogniser

    clip = encode(babble(0.5))
    release, inferred = threading.Event(), []
    original = PhoneRecogniser.features
    infer = PhoneRecogniser.infer

    def slow(self: PhoneRecogniser, audio: Any) -> Any:
        assert release.wait(120)
        return original(self, audio)

    def spy(self: PhoneRecogniser, features: Any) -> Any:
        inferred.append(len(features))
        return infer(self, features)

    async with serve() as client:
        monkeypatch.setattr(PhoneRecogniser, "features", slow)
        monkeypatch.setattr(PhoneRecogniser, "infer", spy)
        app = app_of(client)
        gone = asyncio.Event()
        body = iter([{"type": "http.request", "body": clip, "more_body": False}])

        async def receive() -> Any:
            for message in body:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/transcribe",
            "raw_path": b"/transcribe",
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "client": ("test", 1),
            "server": ("test", 80),
        }
        request = asyncio.create_task(app(scope, receive, send))
        await until(lambda: app.state.scheduler.admitted == 1)
        gone.set()
        await asyncio.sleep(0.02)
        release.set()
        await asyncio.wait_for(request, 120)
        assert app.state.scheduler.admitted == 0
        assert inferred == []
        registry = app.state.metrics.registry
        assert registry.get_sample_value("deepthin_requests_shed_total", {"reason": "client_gone"}) == 1
        labels = {"route": "/transcribe", "verb": "POST", "status": "499"}
        assert registry.get_sample_value("deepthin_requests_total", labels) == 1


async def test_who_asks_is_told_how_many_threads_are_at_work() -> None:
    told: list[int] = []
    scheduler, _ = make(on_busy=told.append)
    gate = Gate()
    waiting = [asyncio.create_task(scheduler.submit(lane, lane, gate)) for lane in range(3)]
    await until(lambda: len(gate.batches) == 2)
    assert told == [1, 2]
    # All of the threads are at work; a call waits for one of them.
    call = asyncio.create_task(scheduler.run(lambda: 5))
    await asyncio.sleep(0.05)
    assert told == [1, 2, 2]
    gate.open.set()
    await asyncio.gather(call, *waiting)
    await until(lambda: told[-1] == 0)
    await scheduler.close(1)
