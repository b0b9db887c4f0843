"""`sending_queue.batch`: requests that wait are joined, so that each call carries many items.

Joining works on encoded bodies and costs one copy. Protobuf bodies are put one after the other,
which parses as one message with all their resources (protobuf encoding, "Last One Wins": a
concatenation is a merge, and lists of a merge follow each other).
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from otel_oom import errors
from otel_oom.config.types import Duration, Violations
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.request import Request
from otel_oom.pipeline.sending.room import NOTHING, Size

Join = Callable[[Sequence[bytes]], bytes]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PartitionConfig:
    """`partition`, which only a collector that has clients can use."""

    metadata_keys: list[str] = dataclasses.field(default_factory=list)
    """Not supported: what comes from the kernel carries no client metadata. Must be empty."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.metadata_keys:
            text = "`metadata_keys` is not supported: there is no client metadata to batch by"
            yield ("metadata_keys",), text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """`sending_queue.batch`, with the collector's names and defaults."""

    flush_timeout: Duration = Duration(0.2)
    """Longest time that a request waits for others, default 200ms. While every consumer is busy
    it waits, and is joined, longer."""

    min_size: int = 8192
    """Size at which a batch is sent at once, default 8192; 0 joins nothing."""

    max_size: int = 0
    """Size that joining does not exceed, default 0: only the 64 MiB that OTLP allows.
    A request that is larger when it comes is sent alone, as it is, and not cut.
    Many gRPC servers take no more than 4 MiB."""

    sizer: Literal["items", "bytes"] | None = None
    """Unit of both sizes: `items`, or `bytes` of encoded OTLP. Default the unit of the queue,
    and `items` where that is `requests`."""

    partition: PartitionConfig = dataclasses.field(default_factory=PartitionConfig)
    """What must not be joined; there is nothing of that kind."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.flush_timeout <= 0:
            yield ("flush_timeout",), "`flush_timeout` must be greater than 0"
        for key in ("min_size", "max_size"):
            if getattr(self, key) < 0:
                yield (key,), f"`{key}` must not be negative"
        if 0 < self.max_size < self.min_size:
            text = (
                f"`max_size` ({self.max_size}) must be 0 or at least `min_size` ({self.min_size})"
            )
            yield ("max_size",), text


def join_protobuf(bodies: Sequence[bytes]) -> bytes:
    """Join encoded messages of one type."""
    return b"".join(bodies)


def join_json(bodies: Sequence[bytes]) -> bytes:
    """Join messages of one type as `otlp.json` writes them: one key, whose value is a list."""
    start = bodies[0].index(b"[") + 1
    return b"%b%b]}" % (bodies[0][:start], b",".join(body[start:-2] for body in bodies))


def join_of(encode: limits.Encode) -> Join:
    """How to join what `encode` makes; `errors.ComponentError` if nobody can tell."""
    joins: dict[limits.Encode, Join] = {
        limits.protobuf: join_protobuf,
        otlp_json.encode: join_json,
    }
    if encode not in joins:
        raise errors.ComponentError(
            "`sending_queue.batch` cannot be used: this exporter has an encoding of its own, "
            "which cannot be joined; remove the key"
        )
    return joins[encode]


def joined(requests: Sequence[Request], join: Join) -> Request:
    """One request of several of one signal and weight."""
    first = requests[0]
    if len(requests) == 1:
        return first
    body = join([request.body for request in requests])
    saved_bytes = sum(len(request.body) for request in requests) - len(body)
    items = sum(request.items for request in requests)
    return Request(first.signal, body, items, len(requests), saved_bytes, first.weight)


@dataclasses.dataclass(slots=True, eq=False)
class _Group:
    """Requests of one signal that will be one request; `numbers` say when each came."""

    requests: list[Request] = dataclasses.field(default_factory=list)
    numbers: list[int] = dataclasses.field(default_factory=list)
    size: int = 0
    size_bytes: int = 0
    due: bool = False
    timer: asyncio.TimerHandle | None = None


class Batcher:
    """What waits of one weight, in groups; of each signal one, its newest, is open for more.

    A group is due when it is full, when its time is up, or at `flush`. It stays open when only
    its time is up, until a consumer takes it: a slow destination gets larger requests.
    """

    def __init__(self, config: BatchConfig, join: Join, max_bytes: int) -> None:
        self._config = config
        self._sizer = config.sizer or "items"
        self._join = join
        self._max_bytes = max_bytes
        self._open: dict[Signal, _Group] = {}
        self._due: collections.deque[_Group] = collections.deque()
        self._came = asyncio.Event()
        self._ended = False
        self._number = 0
        self.waiting = NOTHING

    @property
    def is_due(self) -> bool:
        """Whether `get` would return at once with a request."""
        return bool(self._due)

    def put(self, request: Request) -> None:
        """Add a request to the open group of its signal, or to a new one if it does not fit."""
        group = self._open.get(request.signal)
        if group and not self._fits(group, request):
            self._close(request.signal)
            group = None
        if group is None:
            group = self._open[request.signal] = _Group()
        self._number += 1
        group.requests.append(request)
        group.numbers.append(self._number)
        self._resize(group, request, 1)
        if group.size >= self._config.min_size:
            self._close(request.signal)
        elif group.timer is None:
            loop = asyncio.get_running_loop()
            group.timer = loop.call_later(self._config.flush_timeout, self._release, group)

    async def get(self) -> Request | None:
        """Take the oldest due group as one request; None after `end`, once nothing is left."""
        while not self._due:
            if self._ended:
                return None
            self._came.clear()
            await self._came.wait()
        group = self._due.popleft()
        request = joined(group.requests, self._join)
        self.waiting = self.waiting.plus(Size.of(request), -1)
        self._forget_open(group, request.signal)
        return request

    def end(self) -> None:
        """Make everything due at once, and let `get` return None after it."""
        self._ended = True
        for signal in list(self._open):
            self._close(signal)
        self._came.set()

    def take_all(self) -> list[Request]:
        """After `end`: take all that is left, as it came."""
        left = [request for group in self._due for request in group.requests]
        self._due.clear()
        return left

    def evict_newest(self) -> Request:
        """Take out the request that came last; there is one."""
        groups = [*self._open.values(), *list(self._due)[-1:]]
        group = max(groups, key=lambda group: group.numbers[-1])
        group.numbers.pop()
        request = group.requests.pop()
        self._resize(group, request, -1)
        if not group.requests:
            self._discard(group, request.signal)
        return request

    def _discard(self, group: _Group, signal: Signal) -> None:
        self._forget_open(group, signal)
        if group.due and self._due[-1] is group:
            self._due.pop()
        elif group.due:
            self._due.remove(group)
        elif group.timer:
            group.timer.cancel()

    def _forget_open(self, group: _Group, signal: Signal) -> None:
        if self._open.get(signal) is group:
            del self._open[signal]

    def _resize(self, group: _Group, request: Request, sign: int) -> None:
        group.size += sign * request.size(self._sizer)
        group.size_bytes += sign * len(request.body)
        self.waiting = self.waiting.plus(Size.of(request), sign)

    def _fits(self, group: _Group, request: Request) -> bool:
        size = group.size + request.size(self._sizer)
        size_bytes = group.size_bytes + len(request.body)
        return size <= (self._config.max_size or size) and size_bytes <= self._max_bytes

    def _close(self, signal: Signal) -> None:
        self._release(self._open.pop(signal))

    def _release(self, group: _Group) -> None:
        if not group.due:
            group.due = True
            self._due.append(group)
            self._came.set()
            if group.timer:
                group.timer.cancel()
