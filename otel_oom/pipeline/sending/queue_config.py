"""`sending_queue`: the options of every exporter's queue, in memory or in a storage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from otel_oom.config.types import ByteSize, Violations
from otel_oom.pipeline import weights
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.request import Sizer
from otel_oom.pipeline.sending.room import Room

_WEIGHTS = frozenset(map(str, range(weights.LEAST, weights.MOST + 1)))
_IN_MEMORY, _IN_STORAGE = 1000, 1_000_000
"""`queue_size` if it is not set."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """`sending_queue`, with the collector's names and defaults."""

    enabled: bool = True
    """Whether requests wait in a queue; if not, whoever hands a batch on waits until its end."""

    num_consumers: int = 1
    """Requests of each weight that are sent at the same time, default 1: the order within a weight
    is kept. Above 1 it is not (the collector's default is 10). Requests of the critical weight, 10,
    wait for no other; those of all others together share as many calls, by weight, of which each
    weight that waits gets a tenth at least."""

    num_consumers_by_weight: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """`num_consumers` of single weights, e.g. `{"3": 10}`. Default none."""

    queue_size: int | None = None
    """Room for what waits and what is being sent, in the unit of `sizer`. Default 1000, and with
    `storage` 1000000."""

    sizer: Sizer = "requests"
    """Unit of `queue_size`: `requests` (default), `items`, or `bytes` of encoded OTLP."""

    max_items: int = 0
    """Limit in items beside `queue_size`. Default 0, which is none."""

    max_bytes: ByteSize = ByteSize(0)
    """Limit in bytes of encoded OTLP beside `queue_size`. Default 0, which is none; what a
    storage takes on its disk has a limit of its own there."""

    reserve: float = 0.1
    """Part of each limit that only the critical weight may use, default 0.1. Once a queue is full,
    what comes pushes out what came last of the lowest weight below its own (`evicted`); if there
    is none it is refused (`queue_full`)."""

    block_on_overflow: bool = False
    """Whether a full queue makes the caller wait; then nothing is pushed out. Default no."""

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
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ValueError(f"'{key}' must be greater than 0")
        for key in ("max_items", "max_bytes"):
            if getattr(self, key) < 0:
                raise ValueError(f"'{key}' must not be negative")
        if not 0 <= self.reserve < 1:
            raise ValueError("'reserve' must be at least 0 and less than 1")

    def validate(self) -> Violations:
        """Yield how `batch` does not go with the queue; without a queue it does nothing."""
        for weight, consumers in self.num_consumers_by_weight.items():
            if weight not in _WEIGHTS or consumers <= 0:
                text = f"`{weight}: {consumers}` must be a weight from 1 to 10 and a number above 0"
                yield ("num_consumers_by_weight",), text
        if self.storage is not None:
            yield from self._storage_problems()
        if not self.enabled or self.batch is None:
            return
        if self.wait_for_result:
            text = "`batch` joins what waits in the queue; it cannot be used with `wait_for_result`"
            yield ("batch",), text
        batching = self.batching()
        if batching.sizer == self.sizer and batching.min_size > self.capacity:
            text = (
                f"`min_size` ({batching.min_size}) must be at most `queue_size` "
                f"({self.capacity}), or no batch gets full"
            )
            yield ("batch", "min_size"), text

    def _storage_problems(self) -> Violations:
        for key, isset in {
            "wait_for_result": self.wait_for_result,
            "block_on_overflow": self.block_on_overflow,
        }.items():
            if isset:
                yield (key,), f"`{key}` cannot be used with `storage`"

    @property
    def capacity(self) -> int:
        """The limit in the unit of `sizer`."""
        if self.queue_size is not None:
            return self.queue_size
        return _IN_MEMORY if self.storage is None else _IN_STORAGE

    def room(self) -> Room:
        """The limits, nothing taken of them."""
        limits: dict[Sizer, int] = {"items": self.max_items, "bytes": self.max_bytes}
        limits = {sizer: limit for sizer, limit in limits.items() if limit}
        limits[self.sizer] = min(self.capacity, limits.get(self.sizer, self.capacity))
        return Room(limits, self.reserve)

    def consumers(self, weight: int) -> int:
        """Requests of a weight that are sent at the same time."""
        return self.num_consumers_by_weight.get(str(weight), self.num_consumers)

    @property
    def shared_calls(self) -> int:
        """Calls that all weights but the critical share: as many as one of them may have."""
        return max(self.consumers(weight) for weight in range(weights.LEAST, weights.CRITICAL))

    def batching(self) -> BatchConfig:
        """`batch` with its `sizer` settled; without it, one that joins nothing."""
        if self.batch is None:
            return BatchConfig(min_size=0)
        sizer = self.batch.sizer or ("items" if self.sizer == "requests" else self.sizer)
        return dataclasses.replace(self.batch, sizer=sizer)
