"""A small HTTP/1.1 client on the event loop, with bounded answers and answers without end.

Why our own: docs/decisions/0002-otlp-http-client.md. It keeps connections alive, does not
follow redirects (they would carry the headers elsewhere), asks for no compressed answer and
reads a bounded part of any.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

from otel_oom.http import message as http_message
from otel_oom.http.message import HttpError, MaxBytes, Response, Url

IDLE_S = 90.0
"""Time in seconds that an unused connection is kept (Go's default, so the collector's)."""


NEXT_ADDRESS_S = 0.25
"""Time in seconds after which the next address of a name is tried beside the first (RFC 8305)."""


class _Unanswered(HttpError):
    """The connection ended before there was an answer."""


@dataclasses.dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since_s: float = 0.0

    def usable(self) -> bool:
        """Whether the server has left it open, as far as is known, and it is not too old."""
        idle_s = asyncio.get_running_loop().time() - self.idle_since_s
        open_ = not (self.reader.at_eof() or self.writer.is_closing() or self.reader.exception())
        return open_ and idle_s < IDLE_S

    def abort(self) -> None:
        """Close it now."""
        self.writer.transport.abort()


class Stream:
    """An answer whose head was read; its body is had either in pieces or whole."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        status: int,
        headers: Mapping[str, str],
        max_bytes: int,
    ) -> None:
        self.status = status
        self._reader = reader
        self._headers = headers
        self._max_bytes = max_bytes
        self.body = http_message.Body(reader, status, headers)

    async def whole(self) -> Response:
        """The body as of any other answer; for an answer that is an error."""
        return await http_message.read_rest(
            self._reader, self.status, self._headers, self._max_bytes
        )


class HttpClient:
    """Connections to any number of servers, kept alive between requests.

    `context` is asked for a TLS context each time a connection is made; `server_name` replaces
    the host as the name that the certificate must have; `max_bytes` tells by the status how
    many bytes of an answer's body are read.
    """

    def __init__(
        self,
        *,
        context: Callable[[], ssl.SSLContext],
        server_name: str | None,
        max_bytes: MaxBytes,
    ) -> None:
        self._context = context
        self._server_name = server_name
        self._max_bytes = max_bytes
        self._idle: dict[tuple[bool, str, int], list[_Connection]] = {}

    async def post(self, url: Url, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a POST and return the answer, or raise `HttpError` if there is none.

        A kept connection that the server closed meanwhile is replaced, as all clients do.
        """
        return await self._request(
            url, http_message.request_head("POST", url, headers, len(body)), body
        )

    async def get(self, url: Url, headers: Mapping[str, str]) -> Response:
        """Send a GET and return the answer, or raise `HttpError` if there is none."""
        return await self._request(url, http_message.request_head("GET", url, headers), b"")

    @contextlib.asynccontextmanager
    async def stream(self, url: Url, headers: Mapping[str, str]) -> AsyncIterator[Stream]:
        """Send a GET whose answer is read as it comes, on a connection of its own.

        Reading raises `HttpError` when the connection ends before the answer does.
        """
        connection = await self._connect(url)
        try:
            connection.writer.write(http_message.request_head("GET", url, headers))
            status, fields = await http_message.read_head(connection.reader)
            yield Stream(connection.reader, status, fields, self._max_bytes(status))
        except (OSError, EOFError) as failure:
            text = f"lost the connection to {url.authority} ({_reason(failure)})"
            raise HttpError(text) from failure
        finally:
            connection.abort()

    async def _request(self, url: Url, head: bytes, body: bytes) -> Response:
        if connection := self._take(url):
            try:
                return await self._exchange(connection, url, head, body)
            except _Unanswered:
                pass
        return await self._exchange(await self._connect(url), url, head, body)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    async def _exchange(
        self, connection: _Connection, url: Url, head: bytes, body: bytes
    ) -> Response:
        kept = False
        try:
            # Not drained: the body is in memory anyway, and a server that refuses it early
            # answers before it has read it all.
            connection.writer.write(head)
            connection.writer.write(body)
            response = await http_message.read_response(connection.reader, self._max_bytes)
        except (OSError, EOFError) as failure:
            text = f"lost the connection to {url.authority} ({_reason(failure)})"
            raise _Unanswered(text) from failure
        else:
            if kept := response.reusable:
                self._keep(url, connection)
            return response
        finally:
            if not kept:
                connection.abort()

    def _take(self, url: Url) -> _Connection | None:
        connections = self._idle.get((url.tls, url.host, url.port), [])
        while connections:
            connection = connections.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    def _keep(self, url: Url, connection: _Connection) -> None:
        connection.idle_since_s = asyncio.get_running_loop().time()
        self._idle.setdefault((url.tls, url.host, url.port), []).append(connection)

    async def _connect(self, url: Url) -> _Connection:
        context = self._context() if url.tls else None
        name = (self._server_name or url.host) if url.tls else None
        try:
            reader, writer = await asyncio.open_connection(
                url.host,
                url.port,
                ssl=context,
                server_hostname=name,
                limit=http_message.MAX_HEAD_BYTES,
                happy_eyeballs_delay=NEXT_ADDRESS_S,
            )
        except (OSError, ValueError) as failure:
            raise HttpError(f"cannot connect to {url.authority} ({_reason(failure)})") from failure
        return _Connection(reader, writer)


def _reason(failure: Exception) -> str:
    """What failed, in the words of the system or of TLS."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {failure.verify_message}"
    if isinstance(failure, EOFError):
        return "the server closed it"
    return str(failure) or type(failure).__name__
