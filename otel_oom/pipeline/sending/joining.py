"""`sending_queue.batch` for a queue on a disk: what is read of it and sent as one request."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Sequence

from otel_oom.pipeline.durable.items import Item
from otel_oom.pipeline.sending.batching import BatchConfig, Join, joined
from otel_oom.pipeline.sending.request import Request


class Joining:
    """For requests of one weight. What is joined is of one signal, in its order."""

    def __init__(self, config: BatchConfig, join: Join, max_bytes: int) -> None:
        self._config = config
        self._join = join
        self._max_bytes = max_bytes
        self._due_s: float | None = None
        """When the oldest has waited for others long enough, in the loop's seconds."""

    def wants_more(self, read: Sequence[Item]) -> bool:
        """Whether what was read would not fill a request."""
        return not read or self._size(read) < self._config.min_size

    def take(
        self, read: collections.deque[Item], wake: Callable[[], None], *, is_last: bool
    ) -> list[Item]:
        """Take out what is to be sent now; [] if it still waits for others, until `wake`."""
        if not read:
            return []
        if not is_last and self.wants_more(read) and self._must_wait(wake):
            return []
        self._due_s = None
        taken = self._fitting(read)
        _take_out(read, taken)
        return taken

    def request(self, items: Sequence[Item]) -> Request:
        """One request of several."""
        requests = [
            Request(item.signal, item.body, item.items, weight=item.weight) for item in items
        ]
        return joined(requests, self._join)

    def _must_wait(self, wake: Callable[[], None]) -> bool:
        loop = asyncio.get_running_loop()
        if self._due_s is None:
            self._due_s = loop.time() + self._config.flush_timeout
            loop.call_at(self._due_s, wake)
        return loop.time() < self._due_s

    def _fitting(self, read: Sequence[Item]) -> list[Item]:
        """The first, and those of its signal after it, as far as one request holds them."""
        first = read[0]
        if not self._config.min_size or not first.is_whole:
            return [first]
        taken: list[Item] = []
        size = size_bytes = 0
        for item in read:
            if item.signal is not first.signal:
                continue
            size += self._measure(item)
            size_bytes += len(item.body)
            if taken and not self._fits(item, size, size_bytes):
                break
            taken.append(item)
            if size >= self._config.min_size:
                break
        return taken

    def _fits(self, item: Item, size: int, size_bytes: int) -> bool:
        is_small = size <= (self._config.max_size or size) and size_bytes <= self._max_bytes
        return item.is_whole and is_small

    def _size(self, read: Sequence[Item]) -> int:
        return sum(self._measure(item) for item in read if item.signal is read[0].signal)

    def _measure(self, item: Item) -> int:
        return len(item.body) if self._config.sizer == "bytes" else item.items


def _take_out(read: collections.deque[Item], taken: Sequence[Item]) -> None:
    if len(taken) == 1:  # it is the first
        read.popleft()
        return
    ids = {item.id for item in taken}
    left = [item for item in read if item.id not in ids]
    read.clear()
    read.extend(left)
