"""A thread for one blocking exporter, which is never asked for two things at a time.

It is a daemon: the loop's thread pool, and every other pool of Python's, is waited for when the
process ends, and an exporter that never returns would keep the agent from stopping.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Worker:
    """Calls what it is given, one after the other, away from the event loop."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        """What it will return or raise. Cancelling keeps it from being called, if it was not."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._jobs.put((function, loop, future))
        return future

    def close(self) -> None:
        """End the thread after what it was asked for; do not wait for that."""
        self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            function, loop, future = job
            if future.cancelled():
                continue
            settle: Callable[[Any], None] = future.set_result
            try:
                value = function()
            except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
                settle, value = future.set_exception, error
            try:
                loop.call_soon_threadsafe(_settle, future, settle, value)
            except RuntimeError:  # the loop has ended: nobody waits any more
                return


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not future.cancelled():
        settle(value)
