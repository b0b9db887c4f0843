"""The sending queue in memory: first in, first out, bounded by requests, items or bytes.

As in the collector, what is being sent still takes room until it is done
(exporter/exporterhelper/README.md: "storage and processing").
"""

from __future__ import annotations

import asyncio
import dataclasses

from otel_oom import errors
from otel_oom.config.types import Violations
from otel_oom.pipeline.sending.batching import BatchConfig, Batcher, Join
from otel_oom.pipeline.sending.request import Request, Sizer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """`sending_queue`, with the collector's names and defaults."""

    enabled: bool = True
    """Whether requests wait in a queue; if not, whoever hands a batch on waits until its end."""

    num_consumers: int = 10
    """Requests sent at the same time, default 10; above 1 their order is not kept."""

    queue_size: int = 1000
    """Room for what waits and what is being sent, default 1000, in the unit of `sizer`."""

    sizer: Sizer = "requests"
    """Unit of `queue_size`: `requests` (default), `items`, or `bytes` of encoded OTLP."""

    block_on_overflow: bool = False
    """Whether a full queue makes the caller wait; by default it refuses (`queue_full`)."""

    wait_for_result: bool = False
    """Whether the caller waits until its batch has been delivered or given up; default no."""

    storage: str | None = None
    """Id of the storage extension that the queue is kept in, e.g. `file_storage`; by default it
    is in memory. What is kept outlives the agent, and is tried until it is taken or refused:
    `max_elapsed_time` has no meaning then."""

    batch: BatchConfig | None = None
    """Joins requests while they wait; off by default, `{}` turns it on with its defaults."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the key."""
        for key in ("num_consumers", "queue_size"):
            if getattr(self, key) <= 0:
                raise ValueError(f"'{key}' must be greater than 0")

    def validate(self) -> Violations:
        """Yield how `batch` does not go with the queue; without a queue it does nothing."""
        if self.storage is not None:
            yield from self._storage_problems()
        if not self.enabled or self.batch is None:
            return
        if self.wait_for_result:
            text = "`batch` joins what waits in the queue; it cannot be used with `wait_for_result`"
            yield ("batch",), text
        batching = self.batching()
        if batching.sizer == self.sizer and batching.min_size > self.queue_size:
            text = (
                f"`min_size` ({batching.min_size}) must be at most `queue_size` "
                f"({self.queue_size}), or no batch gets full"
            )
            yield ("batch", "min_size"), text

    def _storage_problems(self) -> Violations:
        for key, isset in {
            "wait_for_result": self.wait_for_result,
            "block_on_overflow": self.block_on_overflow,
            "batch": self.batch is not None,
        }.items():
            if isset:
                yield (key,), f"`{key}` cannot be used with `storage`"

    def batching(self) -> BatchConfig:
        """`batch` with its `sizer` settled; without it, one that joins nothing."""
        if self.batch is None:
            return BatchConfig(min_size=0)
        sizer = self.batch.sizer or ("items" if self.sizer == "requests" else self.sizer)
        return dataclasses.replace(self.batch, sizer=sizer)


class MemoryQueue:
    """Requests waiting or being sent. A life is `put` -> `get` -> `done`.

    `join` makes one body of several, of at most `max_bytes` (`sending_queue.batch`).
    """

    def __init__(self, config: QueueConfig, join: Join, max_bytes: int) -> None:
        self._config = config
        self._waiting = Batcher(config.batching(), join, max_bytes)
        self._freed = asyncio.Event()
        self._closed = False
        self._size = 0

    @property
    def size(self) -> int:
        """Room taken now, in the unit of `sizer`."""
        return self._size

    @property
    def capacity(self) -> int:
        """The configured room, in the unit of `sizer`."""
        return self._config.queue_size

    async def put(self, request: Request) -> None:
        """Take a request; suspends and raises as `reserve` does."""
        await self.reserve(request)
        self._waiting.put(request)

    async def reserve(self, request: Request) -> None:
        """Take room for a request, or raise `errors.QueueFull`, or `errors.Refused` once closed.

        Suspends only while `block_on_overflow` makes it wait for room.
        """
        size = request.size(self._config.sizer)
        if size > self.capacity:
            raise errors.QueueFull(
                f"a request of {size} {self._config.sizer} can never fit into a queue of "
                f"{self.capacity}; raise sending_queue.queue_size"
            )
        if self._config.block_on_overflow:
            await self._room(size)
        if self._closed:
            raise errors.Refused("the exporter is stopped", reason="shutdown")
        if self._size + size > self.capacity:
            raise errors.QueueFull(
                f"the sending queue is full ({self.capacity} {self._config.sizer})"
            )
        self._size += size

    async def get(self) -> Request | None:
        """Take the oldest requests, joined; None once the queue is closed and nothing waits."""
        return await self._waiting.get()

    def done(self, request: Request) -> None:
        """Give back the room of a request whose fate is known."""
        self._size -= request.size(self._config.sizer)
        self._freed.set()

    def close(self) -> None:
        """Refuse what comes; what waits can still be taken, then each consumer gets its None."""
        if not self._closed:
            self._closed = True
            self._freed.set()
            self._waiting.end(self._config.num_consumers)

    def abandon(self) -> list[Request]:
        """Take everything that still waits in a closed queue."""
        return self._waiting.take_all()

    async def _room(self, size: int) -> None:
        while not self._closed and self._size + size > self.capacity:
            self._freed.clear()
            await self._freed.wait()
