"""A TLS proxy before a Kubernetes API server that misbehaves when the test says so.

All requests are kept in `requests`. While `fault` is set it deals with each new request in place of
the API server; `streams` are the watches whose answers have begun, which can be spoilt while they
run. The certificate is the proxy's own, so that its authority can be changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http
import json
import pathlib
import socket
import ssl
import struct
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from doubles import certificates, kube_client

_LIMIT_BYTES = 1 << 24
"""Of a line: an event, or the head of a message."""
_END = b"0\r\n\r\n"
_POLL_S = 0.05
"""How soon it sees that the client is gone."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as it came; `at` is the loop's time in seconds, names of headers are lower case."""

    at: float
    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """Without the query."""
        return urllib.parse.urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The last value of each parameter."""
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.target).query))

    @property
    def is_watch(self) -> bool:
        """A watch; any other GET of a collection is a list."""
        return self.query.get("watch", "false").lower() in ("1", "true")


@dataclasses.dataclass
class Exchange:
    """A request and the connection that its answer goes to."""

    request: Request
    client: asyncio.StreamWriter
    proxy: FaultyApi
    silent: bool = False
    """What comes from the API server is dropped, and the connection stays open."""

    async def forward(self, pace_s: float = 0.0) -> None:
        """Ask the API server and pass its answer on; with a pace, byte by byte."""
        try:
            reader, writer = await self.proxy.connect()
        except OSError:
            return self.reset()
        try:
            await self._relay(reader, writer, pace_s)
        finally:
            writer.transport.abort()

    def say(self, status: int, body: bytes, **headers: str) -> None:
        """Answer so, and keep the connection."""
        given = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        phrase = http.HTTPStatus(status).phrase
        self.client.write(f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode() + body)

    def event(self, type_: str, found: Any) -> None:
        """Put an event into the open stream of a watch."""
        self.line(json.dumps({"type": type_, "object": found}).encode())

    def line(self, text: bytes) -> None:
        """Put any line into the open stream of a watch."""
        self.client.write(_chunk(text + b"\n"))

    def end(self) -> None:
        """End the stream as a server does whose time is up."""
        self.silent = True
        self.client.write(_END)

    def reset(self) -> None:
        """Reset the connection: the peer reads ECONNRESET."""
        plain = self.client.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.transport.abort()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace_s: float
    ) -> None:
        lines = [f"{self.request.method} {self.request.target} HTTP/1.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.request.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await self._pass(head.replace(b"Connection: close\r\n", b""), pace_s)
        if b"transfer-encoding: chunked" not in head.lower():
            return await self._pass(await reader.read(), pace_s)
        if self.request.is_watch:
            self.proxy.streams.append(self)
        async for part in _parts(reader, by_line=self.request.is_watch):
            await self._pass(_chunk(part), pace_s)
        return await self._pass(_END, pace_s)

    async def _pass(self, data: bytes, pace_s: float) -> None:
        if self.silent:
            return
        for part in [data] if pace_s == 0 else (data[i : i + 1] for i in range(len(data))):
            self.client.write(part)
            await self.client.drain()
            await asyncio.sleep(pace_s)


Step = Callable[[Exchange], Awaitable[None]]
"""What is done with a request."""


class FaultyApi:
    """The proxy. It can be stopped, and started again on the same port."""

    def __init__(self, upstream: kube_client.Client, folder: pathlib.Path) -> None:
        """Stand before `upstream`; `ca` is the file that a client is told to trust."""
        self.requests: list[Request] = []
        self.streams: list[Exchange] = []
        self.fault: Step | None = None
        self.ca = folder / "ca.pem"
        self.port = 0
        self._upstream, self._folder, self._authorities = upstream, folder, 0
        self._trust = ssl.create_default_context(cafile=str(upstream.ca))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._new_authority()
        self.publish_authority()

    @property
    def url(self) -> str:
        """Base URL; the certificate also names 127.0.0.1."""
        return f"https://localhost:{self.port}"

    async def start(self) -> None:
        """Listen, on the port of last time if there was one."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls, limit=_LIMIT_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and close those that are open."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def rotate_authority(self) -> None:
        """A certificate of another authority, which nobody knows before `publish_authority`."""
        await self.stop()
        self._new_authority()
        await self.start()

    def publish_authority(self) -> None:
        """Write the authority of now to the file `ca`."""
        self.ca.write_bytes(self._authority.root.cert.read_bytes())

    async def stream(self) -> Exchange:
        """The one watch that is open, once there is one."""
        while len(self.streams) != 1:
            await asyncio.sleep(_POLL_S)
        return self.streams[0]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the API server."""
        return await asyncio.open_connection(
            "localhost", self._upstream.port, ssl=self._trust, limit=_LIMIT_BYTES
        )

    def _new_authority(self) -> None:
        self._authorities += 1
        name = f"proxy-{self._authorities}"
        self._authority = certificates.Authority(self._folder, name)
        pair = self._authority.issue("server", host="localhost,IP:127.0.0.1")
        self._tls = self._authority.server_context(pair)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while (request := await _read_request(reader)) is not None:
                    self.requests.append(request)
                    await self._deal_with(Exchange(request, client, self), reader)
        finally:
            self._tasks.discard(task)
            client.transport.abort()

    async def _deal_with(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        """Until it is answered, or the client is gone."""
        step = self.fault or forward
        dealing = asyncio.ensure_future(step(exchange))
        try:
            while not dealing.done() and not reader.at_eof():
                await asyncio.wait([dealing], timeout=_POLL_S)
        finally:
            dealing.cancel()
            if exchange in self.streams:
                self.streams.remove(exchange)
        with contextlib.suppress(asyncio.CancelledError):
            await dealing


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return Request(asyncio.get_running_loop().time(), method, target, headers)


async def _parts(reader: asyncio.StreamReader, *, by_line: bool) -> AsyncIterator[bytes]:
    """What chunks carry; by whole lines, so that another line can be put between two."""
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        whole, rest = rest, b""
        if by_line:
            whole, newline, rest = whole.rpartition(b"\n")
            whole += newline
        if whole:
            yield whole
    if rest:
        yield rest


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def forward(exchange: Exchange) -> None:
    """As if the proxy were not there."""
    await exchange.forward()
