"""A transport for httpx that costs the same for every request, however many others are on their way."""

import asyncio
import ssl
from functools import cache

import h11
import httpx


class DirectTransport(httpx.AsyncBaseTransport):
    """Gives every request a connection of its own, as clients do that know nothing of each other.

    The pool of httpx looks at all of its connections for each request. Beside a service that sheds load it spends more
    than ten milliseconds on one, falls behind by minutes, and reports that as the latency of the service.

    The body goes out at once. An answer that comes before all of it is out ends the exchange: what is left is not sent.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and read the whole answer, within the time-out for reading.

        Raises:
            httpx.ConnectError: there is no connection.
            httpx.ReadError, httpx.RemoteProtocolError: it broke, or spoke no HTTP, before the answer was complete.
            httpx.ReadTimeout: the answer took too long.
        """
        content = await request.aread()
        url = request.url
        secure = url.scheme == "https"
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                transport, exchange = await asyncio.get_running_loop().create_connection(
                    lambda: _Exchange(request, content),
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


class _Exchange(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, request: httpx.Request, content: bytes) -> None:
        self.response: asyncio.Future[httpx.Response] = asyncio.get_running_loop().create_future()
        self._request = request
        self._content = content
        self._http = h11.Connection(h11.CLIENT)
        self._head: h11.Response | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        request = self._request
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        parts = [
            self._http.send(head),
            self._http.send(h11.Data(data=self._content)),
            self._http.send(h11.EndOfMessage()),
        ]
        transport.write(b"".join(part for part in parts if part))

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
