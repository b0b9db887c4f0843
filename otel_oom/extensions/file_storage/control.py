"""The socket in a storage's directory, through which `otel-oom queue` asks the agent that runs.

It is a Unix socket that only the agent's user may open; nothing listens on a network. A message is
its length, eight bytes, and JSON, in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
from collections.abc import Awaitable, Callable, Iterator

from otel_oom.pipeline.durable import framing
from otel_oom.pipeline.durable.requests import Message

_log = logging.getLogger(__name__)


class Control:
    """Listens while the storage is open."""

    def __init__(
        self, folder: pathlib.Path, answer: Callable[[Message], Awaitable[Message]]
    ) -> None:
        self._folder = folder
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; an agent that cannot be asked still runs, and says so."""
        try:
            self._server = await asyncio.start_unix_server(self._serve, sock=self._bound())
        except OSError as error:
            _log.warning("%s: `otel-oom queue` cannot ask this agent: %s", self._folder, error)

    async def close(self) -> None:
        """Listen no longer; break off who asks."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):  # the disk may have become read-only
            (self._folder / framing.SOCKET).unlink()

    def _bound(self) -> socket.socket:
        """The socket, in place of what an agent that was killed has left."""
        (self._folder / framing.SOCKET).unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with framing.address(self._folder) as address, _private():
                made.bind(address)
        except OSError:
            made.close()
            raise
        return made

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            while (request := await framing.read(reader, framing.REQUEST_BYTES)) is not None:
                writer.write(framing.framed(await self._answer(request)))
                await writer.drain()
        except (OSError, EOFError, ValueError) as error:
            _log.debug("%s: the socket: %r", self._folder, error)
        except asyncio.CancelledError:
            pass  # the agent stops
        finally:
            writer.close()


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Make what is made meanwhile the user's own, from its first moment on."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
