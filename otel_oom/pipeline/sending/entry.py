"""How requests enter an exporter: through the queue, waiting in the queue, or without one.

Who holds a request is always one side only: with a queue the exporter holds what it has
accepted; without one, or with `wait_for_result`, the caller holds it until `accept` returns.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
from collections.abc import Iterator
from typing import Protocol

from otel_oom.pipeline import weights
from otel_oom.pipeline.component import Settings
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending import batching, limits
from otel_oom.pipeline.sending.account import Account, Outcome
from otel_oom.pipeline.sending.joining import Joining
from otel_oom.pipeline.sending.kept import Kept
from otel_oom.pipeline.sending.queue import MemoryQueue, QueueConfig
from otel_oom.pipeline.sending.request import Request
from otel_oom.pipeline.sending.senders import Senders
from otel_oom.pipeline.sending.turns import TurnSender


class Entry(Protocol):
    """The first link of the chain."""

    async def start(self) -> None:
        """Begin to send."""

    async def accept(self, request: Request) -> None:
        """Take the request, or raise `errors.Refused`."""

    async def shutdown(self) -> None:
        """Refuse what comes and send what is held; if cancelled, count it as dropped."""


def create(
    settings: Settings,
    config: QueueConfig,
    account: Account,
    *,
    turns: TurnSender,
    encode: limits.Encode,
    max_bytes: int,
) -> Entry:
    """The entry that a `sending_queue` asks for, with its gauges.

    `turns` learns what waits; `encode` and `max_bytes` tell how far requests can be joined.
    """
    if not config.enabled:
        return Direct(account)
    join = batching.join_of(encode) if config.batch else batching.join_protobuf
    if config.storage is not None:
        joining = functools.partial(Joining, config.batching(), join, max_bytes)
        return Kept(config, account, settings, turns=turns, joining=joining)
    queue = MemoryQueue(config, join, max_bytes)
    settings.ledger.gauge("exporter_queue_size", settings.name, lambda: queue.size)
    settings.ledger.gauge("exporter_queue_capacity", settings.name, lambda: config.capacity)
    settings.ledger.queue(settings.name, queue.depths)
    if config.wait_for_result:
        return Waiting(config, queue, account)
    turns.has_more = queue.has_more
    return Queued(config, queue, account, settings)


class Direct:
    """No queue: the caller waits for the outcome and holds the batch until then."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def accept(self, request: Request) -> None:
        """Send to the end."""
        await self._account.settle(request)

    async def start(self) -> None:
        """Nothing to start."""

    async def shutdown(self) -> None:
        """Nothing is held here."""


class Waiting:
    """A queue that the caller waits in (`wait_for_result`): bounded, nothing is held here."""

    def __init__(self, config: QueueConfig, queue: MemoryQueue, account: Account) -> None:
        self._queue = queue
        self._account = account
        self._turns = {
            weight: asyncio.Semaphore(config.consumers(weight))
            for weight in range(weights.LEAST, weights.MOST + 1)
        }

    async def accept(self, request: Request) -> None:
        """Wait for room and for a turn, then send to the end."""
        await self._queue.reserve(request)
        try:
            async with self._turns[request.weight]:
                await self._account.settle(request)
        finally:
            self._queue.done(request)

    async def start(self) -> None:
        """Nothing to start."""

    async def shutdown(self) -> None:
        """Refuse what comes."""
        self._queue.close()


class Queued:
    """The queue and the tasks that empty it; what it took it holds until its fate is known."""

    def __init__(
        self, config: QueueConfig, queue: MemoryQueue, account: Account, settings: Settings
    ) -> None:
        self._queue = queue
        self._account = account
        self._settings = settings
        self._held: collections.Counter[Signal] = collections.Counter()
        self._senders = Senders(config.consumers, self._work)
        settings.ledger.hold(settings.name, self._held.__getitem__)

    async def accept(self, request: Request) -> None:
        """Take the request, or raise `errors.Refused`."""
        for evicted in await self._queue.put(request):
            self._account.drop(evicted, "evicted")
            self._held[evicted.signal] -= evicted.items
        self._held[request.signal] += request.items
        self._senders.need(request.weight)

    async def start(self) -> None:
        """Begin to send, first what the one before a reload has left."""
        name = self._settings.name
        for request in self._settings.leftovers.take(name):
            self._settings.ledger.recovered(name, request.signal, request.items)
            await self.accept(request)
        self._senders.start()

    async def shutdown(self) -> None:
        """Send what is held; if cancelled, because the time is up, count it as dropped.

        If this exporter comes back after a reload, what waits is left to it at once.
        """
        self._queue.close()
        try:
            if self._settings.leftovers.are_expected(self._settings.name):
                self._abandon()
            await self._senders.finish()
        finally:
            self._abandon()

    async def _work(self, weight: int) -> None:
        while request := await self._queue.get(weight):
            with self._holding(request):
                outcome, _ = await self._account.settle(request)
                if outcome is Outcome.STOPPED:
                    self._leave(request, is_first=True)

    def _abandon(self) -> None:
        for request in self._queue.abandon():
            self._leave(request, is_first=False)
            self._forget(request)

    def _leave(self, request: Request, *, is_first: bool) -> None:
        """To the next exporter of this id if one comes, else for good."""
        settings = self._settings
        if settings.leftovers.are_expected(settings.name):
            settings.leftovers.put(settings.name, request, is_first=is_first)
            settings.ledger.left(settings.name, request.signal, request.items)
        else:
            self._account.drop(request, "shutdown")

    @contextlib.contextmanager
    def _holding(self, request: Request) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self._leave(request, is_first=True)
            raise
        finally:
            self._forget(request)

    def _forget(self, request: Request) -> None:
        self._held[request.signal] -= request.items
        self._queue.done(request)
