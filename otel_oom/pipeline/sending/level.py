"""What a queue on a disk holds of one weight: read ahead in the order in which it came."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Sequence

from otel_oom import errors
from otel_oom.pipeline.durable.items import Gone, Item, Items
from otel_oom.pipeline.sending.joining import Joining
from otel_oom.pipeline.sending.room import NOTHING, Size, total

_log = logging.getLogger(__name__)

_AHEAD, _AHEAD_BYTES = 256, 1 << 20
"""Requests that are read at a time, and where that ends."""

_AGAIN_S = 1.0
"""After a reading that failed."""


class Level:
    """Each request is `take`n by one sender, which says when it is `gone`.

    `size` is what is kept of it in all. Who adds to it says so by `came`.
    """

    def __init__(self, items: Items, weight: int, joining: Joining) -> None:
        self.weight = weight
        self.size = NOTHING
        self._items = items
        self._joining = joining
        self._read: collections.deque[Item] = collections.deque()
        self._taken: dict[int, Item] = {}
        self._last_id = 0
        self._reading = asyncio.Lock()
        self._came = asyncio.Event()
        self._closed = False

    @property
    def has_more(self) -> bool:
        """Whether there is something that no sender has."""
        return self.size.requests > len(self._taken)

    @property
    def waiting(self) -> Size:
        """What no sender has."""
        taken = (size_of(item) for item in self._taken.values())
        return self.size.plus(total(taken), -1)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest in seconds, by the wall clock; 0 if there is none."""
        items = [*self._taken.values(), *list(self._read)[:1]]
        oldest_ns = min((item.accepted_ns for item in items), default=None)
        return max(0.0, (time.time_ns() - oldest_ns) / 1e9) if oldest_ns else 0.0

    def came(self, size: Size) -> None:
        """Something was added."""
        self.size = self.size.plus(size)
        self._came.set()

    def close(self) -> None:
        """Let `take` return nothing once there is nothing more."""
        self._closed = True
        self._came.set()

    async def take(self, on_idle: Callable[[], None]) -> list[Item]:
        """The oldest that nobody has, or several, to be sent as one; [] once closed."""
        while True:
            self._came.clear()
            async with self._reading:
                taken = await self._next()
            if taken or self._closed:
                return taken
            on_idle()
            await self._came.wait()

    def gone(self, item: Item) -> None:
        """It is no longer kept, or soon not any more."""
        self._taken.pop(item.id, None)
        self.size = self.size.plus(size_of(item), -1)

    async def evict(self, is_enough: Callable[[Size], bool]) -> list[Gone]:
        """Remove what came last and nobody has, until it is enough."""

        def enough(gone: Sequence[Gone]) -> bool:
            return is_enough(total(map(size_of, gone)))

        async with self._reading:  # or it might be read just now
            gone = await self._items.evict(self.weight, self._last_id, enough)
            gone += await self._evict_ahead(lambda ahead: enough([*gone, *ahead]))
        self.size = self.size.plus(total(map(size_of, gone)), -1)
        return gone

    async def _evict_ahead(self, is_enough: Callable[[Sequence[Gone]], bool]) -> list[Gone]:
        """Remove of what was read ahead; what the storage will not remove stays."""
        gone: list[Gone] = []
        for item in reversed(self._read):
            if is_enough(gone):
                break
            gone.append(Gone(item.id, item.signal, item.items, len(item.body)))
        try:
            await self._items.remove([one.id for one in gone])
        except errors.StorageError as error:
            _log.error("the queue cannot make room: %s", error)
            return []
        for _ in gone:
            self._read.pop()
        return gone

    async def _next(self) -> list[Item]:
        """What to send now."""
        while self._joining.wants_more(self._read) and await self._fetch():
            pass
        taken = self._joining.take(self._read, self._came.set, is_last=self._closed)
        self._taken.update((item.id, item) for item in taken)
        return taken

    async def _fetch(self) -> bool:
        """Read on; False if there is nothing, or if it cannot be read."""
        try:
            found = await self._items.after(self.weight, self._last_id, _AHEAD, _AHEAD_BYTES)
        except errors.StorageError as error:
            _log.error("the queue cannot be read: %s", error)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._came.set)
            return False
        self._read.extend(found)
        if found:
            self._last_id = found[-1].id
        return bool(found)


def size_of(item: Item | Gone) -> Size:
    """The size of what is kept of one request."""
    return Size(1, item.items, len(item.body) if isinstance(item, Item) else item.bytes)
