"""A real service, with a socket and a process of its own, that is asked for far more than it can do."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from load_tests.direct import DirectTransport
from tests.service.real_service import Service
from tests.support import babble, encode

CLIP = encode(np.tile(babble(1.0), 8))
REQUESTS = 120


@pytest.fixture
def service(home: Path, tmp_path: Path) -> Iterator[Service]:
    """One thread, and room for nobody beside whom it works on."""
    service = Service(
        home, tmp_path / "log", DEEPTHIN_THREADS="1", DEEPTHIN_QUEUE_WAIT_SECONDS="0", DEEPTHIN_QUEUE_BURST="1"
    )
    yield service
    service.kill()


async def send(base_url: httpx.URL, count: int, started: asyncio.Event | None = None) -> list[httpx.Response | None]:
    """So many requests, a few milliseconds apart; None for one whose connection was refused or broke."""
    async with httpx.AsyncClient(base_url=base_url, transport=DirectTransport(), timeout=120) as client:

        async def post(number: int) -> httpx.Response | None:
            await asyncio.sleep(0.005 * number)
            if started is not None and number == count // 2:
                started.set()
            try:
                return await client.post("/transcribe", content=CLIP, headers={"x-request-id": f"number-{number}"})
            except httpx.TransportError:
                return None

        return await asyncio.gather(*(post(number) for number in range(count)))


def answered(log: Path) -> dict[str, int]:
    """Status of every request that the service says it has answered."""
    lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    return {line["request_id"]: line["status"] for line in lines if line.get("route") == "/transcribe"}


def test_everyone_is_answered_or_told_to_come_back(service: Service, tmp_path: Path) -> None:
    service.until_ready()
    responses = asyncio.run(send(service.client.base_url, REQUESTS))
    statuses = Counter(0 if response is None else response.status_code for response in responses)
    assert set(statuses) == {200, 503}
    for response in responses:
        assert response is not None
        if response.status_code == 503:
            assert response.json()["error"]["code"] == "overloaded"
            assert 1 <= int(response.headers["retry-after"]) <= 60
        else:
            assert response.json()["duration_seconds"] == 8.0
    # A line is written once the answer is on its way, and the place given back before.
    until = time.monotonic() + 120
    while len(answered(tmp_path / "log")) < REQUESTS and time.monotonic() < until:
        time.sleep(0.02)
    assert Counter(answered(tmp_path / "log").values()) == statuses
    text = service.client.get("/metrics").text.splitlines()
    shed = sum(float(line.split()[1]) for line in text if line.startswith("deepthin_requests_shed_total{"))
    assert shed == statuses[503]
    assert "deepthin_queue_admitted 0.0" in text
    assert "deepthin_queue_wait_seconds 0.0" in text
    assert service.client.post("/transcribe", content=CLIP).status_code == 200


def test_who_was_let_in_is_answered_when_an_overloaded_service_stops(service: Service, tmp_path: Path) -> None:
    service.until_ready()

    async def stopped() -> list[httpx.Response | None]:
        halfway = asyncio.Event()
        sending = asyncio.create_task(send(service.client.base_url, REQUESTS, halfway))
        await halfway.wait()
        service.process.send_signal(signal.SIGTERM)
        return await sending

    responses = asyncio.run(stopped())
    assert service.process.wait(120) in (0, -signal.SIGTERM)
    got = {
        f"number-{number}": response.status_code for number, response in enumerate(responses) if response is not None
    }
    # Some came too late for the socket; nobody whom the service took in went without an answer.
    assert answered(tmp_path / "log") == got
    assert 200 in got.values()
