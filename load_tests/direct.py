"""A transport for httpx that costs the same for every request, however many others are on their way."""

import asyncio
import ssl
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import h11
import httpx


class DirectTransport(httpx.AsyncBaseTransport):
    """Gives every request a connection of its own, as clients do that know nothing of each other.

    The pool of httpx looks at all of its connections for each request. Beside a service that sheds load it spends more
    than ten milliseconds on one, falls behind by minutes, and reports that as the latency of the service.

    The body goes out at once. An answer that comes before all of it is out ends the exchange: what is left is not sent.
    A request that is sent again is not written anew.
    """

    def __init__(self) -> None:
        self._written: WeakKeyDictionary[httpx.Request, _Written] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and read the whole answer, within the time-out for reading.

        Raises:
            httpx.ConnectError: there is no connection.
            httpx.ReadError, httpx.RemoteProtocolError: it broke, or spoke no HTTP, before the answer was complete.
            httpx.ReadTimeout: the answer took too long.
        """
        await request.aread()
        if request not in self._written:
            self._written[request] = _Written.of(request)
        written = self._written[request]
        url = request.url
        secure = url.scheme == "https"
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                transport, exchange = await asyncio.get_running_loop().create_connection(
                    lambda: _Exchange(request, written),
                    url.host,
                    url.port or (443 if secure else 80),
                    ssl=_tls() if secure else None,
                )
                try:
                    return await exchange.response
                finally:
                    transport.abort()
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time", request=request) from error
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error


@dataclass(frozen=True, slots=True)
class _Written:
    """A request as it goes over the connection, and its head as the reader of the answer has to know it."""

    head: h11.Request
    data: bytes

    @classmethod
    def of(cls, request: httpx.Request) -> "_Written":
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        http = h11.Connection(h11.CLIENT)
        parts = [http.send(head), http.send(h11.Data(data=request.content)), http.send(h11.EndOfMessage())]
        return cls(head, b"".join(part for part in parts if part))


class _Exchange(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, request: httpx.Request, written: _Written) -> None:
        self.response: asyncio.Future[httpx.Response] = asyncio.get_running_loop().create_future()
        self._request = request
        self._written = written
        self._http = h11.Connection(h11.CLIENT)
        self._head: h11.Response | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._http.send(self._written.head)
        transport.write(self._written.data)

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> None:
        self._take(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(httpx.ReadError(str(error or "closed before the answer was complete"), request=self._request))

    def _take(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Response():
                        self._head = event
                    case h11.Data():
                        self._body += event.data
                    case h11.EndOfMessage():
                        self._end()
                    case h11.ConnectionClosed():
                        return
        except h11.RemoteProtocolError as error:
            self._fail(httpx.RemoteProtocolError(str(error), request=self._request))

    def _end(self) -> None:
        assert self._head is not None
        if not self.response.done():
            headers = list(self._head.headers.raw_items())
            self.response.set_result(httpx.Response(self._head.status_code, headers=headers, content=bytes(self._body)))

    def _fail(self, error: httpx.TransportError) -> None:
        if not self.response.done():
            self.response.set_exception(error)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
