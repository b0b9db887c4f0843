"""A TCP proxy before a server that breaks connections in the ways in which networks do.

`fault` deals with each new connection in place of passing it on, and keeps it when `fault` changes:
as in life, what is healed is the way for the next connection.

    async with fault_proxy.running(port) as proxy:
        proxy.fault = fault_proxy.black_hole
        ...
        proxy.fault = None
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

_PIECE_BYTES = 1 << 16


@dataclasses.dataclass(eq=False)
class Connection:
    """One connection of a client, and where it would go."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream_port: int
    silent: bool = False
    """What comes on it is dropped, both ways, and it stays open."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the server."""
        return await asyncio.open_connection("127.0.0.1", self.upstream_port)

    def reset(self) -> None:
        """The client reads ECONNRESET."""
        plain = self.writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Connection], Awaitable[None]]
"""What is done with a connection, until it is closed."""


class FaultProxy:
    """The proxy; `connections` counts what came."""

    def __init__(self, upstream_port: int) -> None:
        self.fault: Fault | None = None
        self.connections = 0
        self.port = 0
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()

    def silence(self) -> None:
        """Nothing comes through any more on the connections that there are."""
        for connection in self._open:
            connection.silent = True

    def cut(self) -> None:
        """Reset the connections that there are."""
        for connection in self._open:
            connection.reset()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = Connection(reader, writer, self._upstream_port)
        self._open.add(connection)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await (self.fault or forward)(connection)
        finally:
            self._open.discard(connection)
            writer.transport.abort()


@contextlib.asynccontextmanager
async def running(upstream_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy for the length of a block."""
    proxy = FaultProxy(upstream_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def forward(connection: Connection) -> None:
    """As if the proxy were not there."""
    await _relay(connection)


async def black_hole(connection: Connection) -> None:
    """Take everything and say nothing: a firewall that forgot the connection."""
    while await connection.reader.read(_PIECE_BYTES):
        pass


async def unread(connection: Connection) -> None:
    """Accept, and never read: a process that hangs."""
    connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def half_open(connection: Connection) -> None:
    """What is sent arrives, and no answer comes back: the server does its work in vain."""
    await _relay(connection, most_back=0, then_reset=False)


async def refused(connection: Connection) -> None:
    """Reset at once."""
    connection.reset()


def reset_after(sent: int) -> Fault:
    """Reset within the request, once so many bytes of it are through."""

    async def fault(connection: Connection) -> None:
        await _relay(connection, most_there=sent)

    return fault


def reset_answer_after(answered: int) -> Fault:
    """Reset within the answer: the server has it all, and its client does not know."""

    async def fault(connection: Connection) -> None:
        await _relay(connection, most_back=answered)

    return fault


def slow(pause_s: float, piece: int = 1) -> Fault:
    """A piece at a time both ways, with a pause after each."""

    async def fault(connection: Connection) -> None:
        await _relay(connection, piece=piece, pause_s=pause_s)

    return fault


async def _relay(
    connection: Connection,
    *,
    most_there: int | None = None,
    most_back: int | None = None,
    then_reset: bool = True,
    piece: int = _PIECE_BYTES,
    pause_s: float = 0.0,
) -> None:
    """Pass on both ways until either ends; a limit that is reached resets, or goes silent."""
    reader, writer = await connection.connect()

    async def there() -> bool:
        return await _pass(connection, connection.reader, writer, most_there, piece, pause_s)

    async def back() -> bool:
        return await _pass(connection, reader, connection.writer, most_back, piece, pause_s)

    ways = [asyncio.create_task(way()) for way in (there, back)]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if not any(way.result() for way in done):
            return
        if then_reset:
            connection.reset()
        else:
            await asyncio.gather(*ways)
            await black_hole(connection)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.transport.abort()


async def _pass(  # noqa: PLR0917
    connection: Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    most: int | None,
    piece: int,
    pause_s: float,
) -> bool:
    """Pass on until the end, or until `most` bytes are through: then True."""
    left = most
    while data := await reader.read(piece):
        if connection.silent:
            continue
        through = data if left is None else data[:left]
        writer.write(through)
        await writer.drain()
        if left is not None:
            left -= len(through)
            if len(through) < len(data) or left == 0:
                return True
        if pause_s:
            await asyncio.sleep(pause_s)
    return False
