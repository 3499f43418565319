"""A real service that is told to stop in the middle of a request."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.service.real_service import Service
from tests.support import babble, encode

CLIP = encode(babble(1.5))


@pytest.fixture
def service(home: Path, tmp_path: Path) -> Iterator[Service]:
    """A service that is gone after the test."""
    service = Service(home, tmp_path / "log")
    yield service
    service.kill()


def test_what_was_begun_is_answered_and_nothing_else_is_taken(service: Service, tmp_path: Path) -> None:
    service.until_ready()
    address = urlsplit(str(service.client.base_url))
    place = (address.hostname or "", address.port or 0)
    head = f"POST /transcribe HTTP/1.1\r\nHost: test\r\nX-Request-ID: begun-1\r\nContent-Length: {len(CLIP)}\r\n\r\n"
    with socket.create_connection(place, timeout=120) as begun:
        begun.sendall(head.encode() + CLIP[:100])
        # An answer on another connection: by now, the first one has been taken.
        assert service.client.get("/livez").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 120
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            while time.monotonic() < until:
                socket.create_connection(place, timeout=120).close()
                time.sleep(0.02)
        assert service.process.poll() is None
        begun.sendall(CLIP[100:])
        answer = b"".join(iter(lambda: begun.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x-request-id: begun-1" in answer.lower()
    # uvicorn lets the signal take its usual effect once everything is done.
    assert service.process.wait(120) in (0, -signal.SIGTERM)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "begun-1"]
    assert (line["status"], line["bytes_in"]) == (200, len(CLIP))
