"""The transport of the load generator, against servers that behave and that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from load_tests.direct import DirectTransport

pytestmark = pytest.mark.anyio

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def serving(handler: Handler, timeout: float = 120.0) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose connections go to `handler`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, transport=DirectTransport(), timeout=timeout) as client:
            yield client


async def test_a_request_goes_out_whole_and_the_answer_comes_back() -> None:
    seen = b""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(300_000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b'{"a":1}')

    async with serving(handler) as client:
        response = await client.post("/transcribe", params={"model": "m"}, content=bytes(300_000))
    assert (response.status_code, response.json()) == (200, {"a": 1})
    assert seen.startswith(b"POST /transcribe?model=m HTTP/1.1\r\n")
    assert b"Content-Length: 300000\r\n" in seen


@pytest.mark.parametrize(
    "head",
    [b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", b"Connection: close\r\n\r\nno"],
    ids=["chunked", "end"],
)
async def test_an_early_answer_ends_the_exchange(head: bytes) -> None:
    answered = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The body is far larger than what the two kernels hold: most of it is never sent.
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n" + head)
        writer.write_eof()
        await answered.wait()

    async with serving(handler) as client:
        response = await client.post("/transcribe", content=bytes(64_000_000))
        answered.set()
    assert (response.status_code, response.content, response.headers["retry-after"]) == (503, b"no", "2")


async def test_what_goes_wrong_has_the_names_that_httpx_gives_it() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{")

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"not HTTP at all\r\n\r\n")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    for handler, error in (
        (cut, httpx.RemoteProtocolError),
        (close, httpx.RemoteProtocolError),
        (reset, httpx.ReadError),
        (nonsense, httpx.RemoteProtocolError),
    ):
        async with serving(handler) as client:
            with pytest.raises(error):
                await client.get("/")
    async with serving(silent, timeout=0.05) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/")
    async with httpx.AsyncClient(transport=DirectTransport()) as client:
        # Port 9 of loopback (discard) has no listener.
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/")


async def test_hundreds_of_requests_are_on_their_way_at_once() -> None:
    waiting = 0
    all_there = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        await reader.readuntil(b"\r\n\r\n")
        waiting += 1
        if waiting == 300:
            all_there.set()
        await all_there.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with serving(handler) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(300)))
    assert {answer.status_code for answer in answers} == {204}
