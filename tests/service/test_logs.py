"""Logs: one line a request, its id, what it took; never what was said."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from models.recognisers.phones import PhoneRecogniser
from service import logs
from service.logs import JsonFormatter, TextFormatter, note, request_log
from tests.service.conftest import Compress, Serve
from tests.service.jobs import finished, submit
from tests.support import babble, encode

pytestmark = pytest.mark.anyio

SPEECH = encode(babble(1.5))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a service that was configured for JSON writes to standard error."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("info", "json")
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def requests(stream: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["message"] == "request"]


async def test_each_request_is_one_line(serve: Serve, written: io.StringIO) -> None:
    async with serve() as client:
        response = await client.post("/transcribe", content=SPEECH, headers={"x-request-id": "mine-1"})
        missing = await client.get("/models/nothing-such")
    answered, refused = requests(written)
    assert answered["request_id"] == response.headers["x-request-id"] == "mine-1"
    assert (answered["route"], answered["verb"], answered["status"]) == ("/transcribe", "POST", 200)
    assert answered["model"] == response.json()["model"]
    assert answered["audio_seconds"] == pytest.approx(1.5, abs=0.01)
    assert answered["bytes_in"] == len(SPEECH)
    assert answered["bytes_out"] == len(response.content)
    assert 0 <= answered["queue_seconds"] <= answered["seconds"]
    assert answered["time"].endswith("+00:00")
    assert (refused["route"], refused["status"], refused["error"]) == ("/models/{name}", 404, "model_not_found")
    assert refused["request_id"] == missing.headers["x-request-id"] != "mine-1"
    assert "model" not in refused


async def test_the_id_of_an_error_is_that_of_its_traceback(
    serve: Serve, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: PhoneRecogniser, audio: Any) -> Any:
        raise ZeroDivisionError("a defect")

    async with serve() as client:
        monkeypatch.setattr(PhoneRecogniser, "features", fail)
        response = await client.post("/transcribe", content=SPEECH, headers={"x-request-id": "bad\tid"})
    assert response.status_code == 500
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    (defect,) = [line for line in lines if line["message"] == "request failed"]
    assert "ZeroDivisionError: a defect" in defect["traceback"]
    assert defect["request_id"] == response.headers["x-request-id"] != "bad\tid"
    (line,) = requests(written)
    assert (line["status"], line["request_id"]) == (500, defect["request_id"])


async def test_nothing_that_is_said_is_logged(
    serve: Serve, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    async with serve(log_level="debug") as client:
        answer = (await client.post("/transcribe", content=SPEECH, params={"decoder": "greedy"})).json()
    assert len(answer["text"]) > 20
    assert answer["text"] not in written.getvalue()
    assert not any(f'"{word["text"]}"' in written.getvalue() for word in answer["words"])


async def test_probes_and_scrapes_are_quiet_while_they_succeed(serve: Serve, written: io.StringIO) -> None:
    async with serve() as client:
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
    assert requests(written) == []
    async with serve(models=("nothing-such",)) as client:
        assert (await client.get("/readyz")).status_code == 503
    assert [(line["route"], line["status"]) for line in requests(written)] == [("/readyz", 503)]


async def test_jobs_are_logged_from_acceptance_to_end(compress: Compress, written: io.StringIO) -> None:
    async with compress() as client:
        job_id = await submit(client)
        await finished(client, job_id)
        async with asyncio.timeout(120):
            while "job ended" not in written.getvalue():
                await asyncio.sleep(0.02)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    events = [line["message"] for line in lines if line.get("job") == job_id]
    assert events[:2] == ["job accepted", "job started"]
    assert events[-1] == "job ended"
    (end,) = [line for line in lines if line["message"] == "job ended"]
    assert (end["state"], end["model"]) == ("succeeded", "made")
    assert end["seconds"] > 0
    (accepted,) = [line for line in lines if line["message"] == "job accepted"]
    (request,) = [line for line in requests(written) if line["route"] == "/compress"]
    assert accepted["request_id"] == request["request_id"]


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "service.test", "levelno": 30, "levelname": "WARNING", "msg": message})
    vars(made).update(fields)
    return made


def test_text_is_a_line_for_people_that_clients_cannot_break() -> None:
    with request_log("r1"):
        line = TextFormatter().format(record("gone\nINFO forged", model="a", seconds=0.1234567891))
    assert line.endswith("warning gone\\nINFO forged request_id=r1 model=a seconds=0.123457")
    assert "\n" not in line


def test_json_is_one_line_whatever_is_in_it() -> None:
    line = JsonFormatter().format(record("a\nb", reason='"\r\n', path=object))
    assert "\n" not in line
    assert json.loads(line)["reason"] == '"\r\n'


def test_notes_belong_to_the_request_that_is_being_answered() -> None:
    note(model="nobody's")
    with request_log("r1") as first:
        note(model="a")
        with request_log("r2") as second:
            note(model="b")
        note(status=200)
    assert (first, second) == ({"model": "a", "status": 200}, {"model": "b"})


@pytest.mark.parametrize(("terminal", "formatter"), [(True, TextFormatter), (False, JsonFormatter)])
def test_a_terminal_gets_text_and_everything_else_json(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch, terminal: bool, formatter: type[logging.Formatter]
) -> None:
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(written, "isatty", lambda: terminal)
    logs.configure("warning", "auto")
    (handler,) = logging.getLogger().handlers
    assert type(handler.formatter) is formatter
    assert logging.getLogger().level == logging.WARNING
