"""Critical requests that the disk did not take: in memory, until somebody has them.

A kill must be told though the disk fails. What is here does not outlive the agent: what nobody
takes at its stop is counted as dropped. It is sent beside the queue, so it may overtake what is
kept.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.account import Account, Outcome
from otel_oom.pipeline.sending.request import Request

_log = logging.getLogger(__name__)

_MOST_REQUESTS, _MOST_BYTES = 1000, 16 << 20
_AGAIN_S = 1.0
"""Between two tries to put them on the disk."""


Work = Callable[[], Coroutine[Any, Any, None]]
"""What a task does."""


class Aside:
    """One sender takes the oldest; whenever the disk works again, the newest go there.

    `keep` puts a request on the disk or raises `errors.Refused`; `hold` is told how many items of
    a signal are held more, or less.
    """

    def __init__(
        self,
        account: Account,
        keep: Callable[[Request], Awaitable[None]],
        hold: Callable[[Request, int], None],
    ) -> None:
        self._account = account
        self._keep = keep
        self._hold = hold
        self.held: collections.Counter[Signal] = collections.Counter()
        """Items."""
        self._waiting: collections.deque[Request] = collections.deque()
        self._bytes = 0
        self._tasks: dict[Work, asyncio.Task[None]] = {}

    def take(self, request: Request) -> bool:
        """Take a request that the disk refused; False if there is no room."""
        size = self._bytes + len(request.body)
        if len(self._waiting) >= _MOST_REQUESTS or size > _MOST_BYTES:
            return False
        if not self._waiting:
            _log.error("the disk does not take what is critical: it is held in memory")
        self._waiting.append(request)
        self._bytes = size
        self.held[request.signal] += request.items
        self._hold(request, request.items)
        for work in (self._send, self._move_again):
            if work not in self._tasks or self._tasks[work].done():
                self._tasks[work] = asyncio.create_task(work())
        return True

    async def shutdown(self) -> None:
        """Send or keep what can be; the rest is counted as dropped, because nobody has it."""
        tasks, self._tasks = self._tasks, {}
        try:
            await asyncio.gather(*(task for work, task in tasks.items() if work == self._send))
            await self._move_twice()
        except errors.Refused as refused:
            _log.error("the disk does not take what is held in memory at the stop: %s", refused)
        finally:
            for task in tasks.values():
                task.cancel()
            while self._waiting:
                self._account.drop(self._waiting[0], "shutdown")
                self._forget(self._waiting.popleft())

    async def _send(self) -> None:
        while self._waiting:
            request = self._waiting[0]
            outcome, _ = await self._account.settle(request, keeps=True)
            if outcome is Outcome.STOPPED:
                return
            self._forget(self._waiting.popleft())

    async def _move_again(self) -> None:
        """All but the one that is being sent, as soon as the disk takes them."""
        while self._waiting:
            with contextlib.suppress(errors.Refused):
                await self._move(1)
            await asyncio.sleep(_AGAIN_S)

    async def _move_twice(self) -> None:
        """A disk that failed is only tried again after a while."""
        try:
            await self._move(0)
        except errors.Refused:
            await asyncio.sleep(_AGAIN_S)
            await self._move(0)

    async def _move(self, least: int) -> None:
        """To the disk, the newest first, until so many are left; or raise `errors.Refused`."""
        while len(self._waiting) > least:
            request = self._waiting.pop()
            try:
                await self._keep(request)
            except BaseException:
                self._waiting.append(request)
                raise
            self._forget(request)

    def _forget(self, request: Request) -> None:
        self._bytes -= len(request.body)
        self.held[request.signal] -= request.items
        self._hold(request, -request.items)
