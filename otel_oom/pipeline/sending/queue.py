"""The sending queue in memory: a line for each weight, bounded by requests, items and bytes.

As in the collector, what is being sent still takes room until it is done
(exporter/exporterhelper/README.md: "storage and processing").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from otel_oom import errors
from otel_oom.pipeline.accounting import Depth
from otel_oom.pipeline.sending.batching import Batcher, Join
from otel_oom.pipeline.sending.queue_config import QueueConfig
from otel_oom.pipeline.sending.request import Request
from otel_oom.pipeline.sending.room import Size, total

__all__ = ["MemoryQueue", "QueueConfig"]


class MemoryQueue:
    """Requests waiting or being sent, a line for each weight. A life is `put` -> `get` -> `done`.

    `join` makes one body of several, of at most `max_bytes` (`sending_queue.batch`).
    """

    def __init__(self, config: QueueConfig, join: Join, max_bytes: int) -> None:
        self._config = config
        self._lines = _Lines(lambda: Batcher(config.batching(), join, max_bytes))
        self._room = config.room()
        self._freed = asyncio.Event()
        self._closed = False

    @property
    def size(self) -> int:
        """Room taken now, in the unit of `sizer`."""
        size: int = getattr(self._room.used, self._config.sizer)
        return size

    async def put(self, request: Request) -> list[Request]:
        """Take a request, and return those that it has pushed out.

        Raises as `reserve` does, and suspends only while `block_on_overflow` makes it wait.
        """
        await self._admit(request)
        size = Size.of(request)
        evicted = [] if self._room.fits(size, request.weight) else self._evict(size, request.weight)
        self._room.take(size)
        self._lines[request.weight].put(request)
        return evicted

    async def reserve(self, request: Request) -> None:
        """Take room for a request, or raise `errors.QueueFull`, or `errors.Refused` once closed."""
        await self._admit(request)
        size = Size.of(request)
        if not self._room.fits(size, request.weight):
            raise self._room.full()
        self._room.take(size)

    def has_more(self, weight: int) -> bool:
        """Whether a request of a weight is due."""
        return self._lines[weight].is_due

    def depths(self) -> dict[int, Depth]:
        """What waits, by weight, for the ledger."""
        return {weight: Depth(*line.waiting) for weight, line in self._lines.items()}

    def waiting(self) -> dict[int, Size]:
        """What waits, by weight."""
        return {weight: line.waiting for weight, line in self._lines.items() if any(line.waiting)}

    async def get(self, weight: int) -> Request | None:
        """Take the oldest requests of a weight, joined; None once closed and nothing waits."""
        return await self._lines[weight].get()

    def done(self, request: Request) -> None:
        """Give back the room of a request whose fate is known."""
        self._room.give_back(Size.of(request))
        self._freed.set()

    def close(self) -> None:
        """Refuse what comes; what waits can still be taken."""
        if not self._closed:
            self._closed = True
            self._freed.set()
            for line in self._lines.values():
                line.end()

    def abandon(self) -> list[Request]:
        """Take everything that still waits in a closed queue."""
        return [request for line in self._lines.values() for request in line.take_all()]

    async def _admit(self, request: Request) -> None:
        size, weight = Size.of(request), request.weight
        self._room.check(size, weight)
        while self._config.block_on_overflow and not self._closed:
            if self._room.fits(size, weight):
                break
            self._freed.clear()
            await self._freed.wait()
        if self._closed:
            raise errors.Refused("the exporter is stopped", reason="shutdown")

    def _evict(self, size: Size, weight: int) -> list[Request]:
        """Take out what came last of the lowest weights, if that makes room, else refuse."""
        lower = sorted(one for one in self.waiting() if one < weight)
        freed = total(self._lines[one].waiting for one in lower)
        if not self._room.fits(size, weight, freed):
            raise self._room.full()
        evicted = []
        while not self._room.fits(size, weight):
            lowest = next(one for one in lower if any(self._lines[one].waiting))
            evicted.append(self._lines[lowest].evict_newest())
            self._room.give_back(Size.of(evicted[-1]))
        return evicted


class _Lines(dict[int, Batcher]):
    """By weight, each made when it is first asked for."""

    def __init__(self, make: Callable[[], Batcher]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, weight: int) -> Batcher:
        self[weight] = self._make()
        return self[weight]
