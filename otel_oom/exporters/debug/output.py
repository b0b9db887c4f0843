"""Writes text to a standard stream without ever making the event loop wait.

The reader of a pipe or a terminal may be slow, stopped or gone. What it has not taken yet is
kept, up to a bound, and written when there is room (`loop.add_writer`). The stream's own flags
are not touched, because a terminal shares them with the shell.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import select
import socket
import stat
from collections.abc import Callable

Done = Callable[[str], None]
"""Called once for each text: with "" when it is written, else with why it is not."""

CLOSED, SLOW, STOPPED = "output_closed", "output_slow", "shutdown"
_CHUNK_BYTES = 64 * 1024


class Output:
    """One stream. Texts come out whole and in order, or are given up with a reason."""

    def __init__(self, descriptor: int, max_bytes: int = 1024 * 1024) -> None:
        """`descriptor` stays open; `max_bytes` bounds what waits for a slow reader."""
        self._max_bytes = max_bytes
        self._queue: collections.deque[tuple[memoryview, Done]] = collections.deque()
        self._waiting_bytes = 0
        self._waits = False
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()
        try:
            self._own, self._write = _open(descriptor)
        except OSError:
            self._own, self._closed = -1, True

    @property
    def closed(self) -> bool:
        """Whether the reader has gone."""
        return self._closed

    def write(self, text: str, done: Done) -> None:
        """Write now what there is room for, and the rest later."""
        data = text.encode("utf-8", "backslashreplace")
        if self._closed:
            done(CLOSED)
        elif self._queue and self._waiting_bytes + len(data) > self._max_bytes:
            done(SLOW)
        else:
            self._queue.append((memoryview(data), done))
            self._waiting_bytes += len(data)
            self._empty.clear()
            if not self._waits:
                self._drain()

    async def close(self) -> None:
        """Wait until all is written; what is left when this is cancelled is given up."""
        try:
            await self._empty.wait()
        finally:
            self._give_up(STOPPED)
            self._closed = True
            self._stop_waiting()
            if self._own >= 0:
                os.close(self._own)
                self._own = -1

    def _drain(self) -> None:
        try:
            while self._queue:
                self._write_some()
        except BlockingIOError:
            self._wait()
        except OSError:
            self._closed = True
            self._give_up(CLOSED)
        if not self._queue:
            self._empty.set()
            self._stop_waiting()

    def _write_some(self) -> None:
        data, done = self._queue[0]
        written = self._write(data[:_CHUNK_BYTES])
        self._waiting_bytes -= written
        if written < len(data):
            self._queue[0] = (data[written:], done)
        else:
            self._queue.popleft()
            done("")

    def _wait(self) -> None:
        if not self._waits:
            asyncio.get_running_loop().add_writer(self._own, self._drain)
            self._waits = True

    def _stop_waiting(self) -> None:
        if self._waits:
            asyncio.get_running_loop().remove_writer(self._own)
            self._waits = False

    def _give_up(self, reason: str) -> None:
        while self._queue:
            _, done = self._queue.popleft()
            done(reason)
        self._waiting_bytes = 0
        self._empty.set()


def _open(descriptor: int) -> tuple[int, Callable[[memoryview], int]]:
    """Return a descriptor of our own and how to write to it without blocking."""
    mode = os.fstat(descriptor).st_mode
    own = os.dup(descriptor)
    if stat.S_ISREG(mode):  # takes writes at once, at the offset that others share
        return own, lambda data: os.write(own, data)
    if stat.S_ISSOCK(mode):
        return own, lambda data: _send(own, data)
    with contextlib.suppress(OSError):  # it may belong to another user, as in a container
        again = os.open(f"/proc/self/fd/{own}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        os.close(own)
        return again, lambda data: os.write(again, data)
    return own, lambda data: _write_if_ready(own, data)


def _write_if_ready(descriptor: int, data: memoryview) -> int:
    """Write as much as a pipe takes for sure once it says that it has room (pipe(7))."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])


def _send(descriptor: int, data: memoryview) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as stream:
        return stream.send(data, socket.MSG_DONTWAIT)
