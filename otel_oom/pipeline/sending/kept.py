"""A queue on a disk: what is accepted outlives the agent, until a destination has it.

A request is a row from its acceptance to its end. It is sent from there, the oldest of its weight
first; a crash between its delivery and its removal sends it again (at least once), never not at
all. What the destination refuses for good goes to the dead letters with its reason, and holds up
nobody.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from otel_oom import errors
from otel_oom.pipeline import weights
from otel_oom.pipeline.accounting import Depth
from otel_oom.pipeline.component import Settings
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.items import Gone, Item, Items, Total
from otel_oom.pipeline.durable.limit import Limit
from otel_oom.pipeline.sending.account import Account, Outcome
from otel_oom.pipeline.sending.aside import Aside
from otel_oom.pipeline.sending.joining import Joining
from otel_oom.pipeline.sending.level import Level, size_of
from otel_oom.pipeline.sending.queue_config import QueueConfig
from otel_oom.pipeline.sending.request import Request
from otel_oom.pipeline.sending.room import Size, total
from otel_oom.pipeline.sending.senders import Senders
from otel_oom.pipeline.sending.turns import TurnSender

_log = logging.getLogger(__name__)


class NotWritten(errors.Refused):
    """The disk did not take a request."""


class Kept:
    """The entry of an exporter whose queue is in a storage."""

    def __init__(
        self,
        config: QueueConfig,
        account: Account,
        settings: Settings,
        *,
        turns: TurnSender,
        joining: Callable[[], Joining],
    ) -> None:
        self._config = config
        self._account = account
        self._settings = settings
        self._turns = turns
        self._joining = joining
        self._room = config.room()
        self._making_room = asyncio.Lock()
        self._levels: dict[int, Level] = {}
        self._senders = Senders(config.consumers, self._work)
        self._held: collections.Counter[Signal] = collections.Counter()
        self._aside = Aside(account, self._keep, self._hold)
        self._closed = False
        self._items: Items | None = None
        self._limit = Limit(0)
        turns.has_more = self._has_more
        settings.ledger.hold(settings.name, self._held.__getitem__)
        settings.ledger.keep(lambda signal: self._held[signal] - self._aside.held[signal])
        settings.ledger.gauge("exporter_queue_size", settings.name, self._size)
        settings.ledger.gauge("exporter_queue_capacity", settings.name, lambda: config.capacity)
        settings.ledger.queue(settings.name, self._depths)

    async def start(self) -> None:
        """Take over what an earlier life left, and begin to send."""
        storage = self._settings.storages.find(str(self._config.storage))
        try:
            self._items = Items(storage.database(), self._settings.name, storage.limit)
            self._recover(await self._items.totals())
        except errors.StorageError as error:
            raise errors.ComponentError(str(error)) from error
        storage.listen(self._settings.name, self._recover)
        storage.limit.queues.append(self)
        self._limit = storage.limit
        self._senders.start()

    async def accept(self, request: Request) -> None:
        """Keep the request, or raise `errors.Refused`."""
        if self._closed:
            raise errors.Refused("the exporter is stopped", reason="shutdown")
        try:
            await self._keep(request)
        except NotWritten:
            if request.weight < weights.CRITICAL or not self._aside.take(request):
                raise

    async def _keep(self, request: Request) -> None:
        """Put the request on the disk, or raise `errors.Refused`; then it is not there."""
        items, size = self._started(), Size.of(request)
        self._room.check(size, request.weight)
        if not self._room.fits(size, request.weight):
            await self._make_room(size, request.weight)
        self._room.take(size)  # before it is written, so that others do not take the same room
        adding = asyncio.ensure_future(self._write(items, request, size))
        try:
            await asyncio.shield(adding)
        except asyncio.CancelledError:
            with contextlib.suppress(errors.Refused):
                await adding
                # The caller counts it as dropped; then ours is a copy.
                self._settings.ledger.copied(request.signal, request.items)
            raise

    def lowest(self) -> int | None:
        """The lowest weight of which something waits."""
        return min((one for one, level in self._levels.items() if level.has_more), default=None)

    async def give_way(self, weight: int, size_bytes: int) -> bool:
        """Push out as much of a weight, because the file that it shares is full."""
        level = self._levels[weight]
        return bool(await self._evict(level, lambda freed: freed.bytes >= size_bytes))

    async def shutdown(self) -> None:
        """Send what can be sent in the time that the caller gives; the rest stays on the disk."""
        self._closed = True
        if self in self._limit.queues:
            self._limit.queues.remove(self)
        for level in self._levels.values():
            level.close()
        with contextlib.suppress(errors.ComponentError):
            self._settings.storages.find(str(self._config.storage)).ignore(self._settings.name)
        await asyncio.gather(self._aside.shutdown(), self._senders.finish())

    async def _work(self, weight: int) -> None:
        level = self._levels[weight]
        try:
            while items := await level.take(lambda: self._turns.leave(weight)):
                if not await self._send(level, items):
                    return
        finally:
            self._turns.leave(weight)

    def _recover(self, totals: Iterable[Total]) -> None:
        """Take over what is on the disk and nobody in this life had accepted."""
        for found in totals:
            self._settings.ledger.recovered(self._settings.name, found.signal, found.items)
            size = Size(found.requests, found.items, found.bytes)
            self._room.take(size)
            self._add(found.signal, found.weight, size)

    async def _send(self, level: Level, items: Sequence[Item]) -> bool:
        """Send some as one to their end; False if they stay, because the agent stops."""
        if not items[0].is_whole:
            return await self._leave_out(level, items[0])
        request = self._joining().request(items)
        outcome, why = await self._account.settle(request, keeps=True)
        if outcome is Outcome.DIVIDED:
            return await self._send_each(level, items)
        if outcome is Outcome.STOPPED:
            return False
        self._forget(level, items)  # with the count, before anything else can run
        if outcome is Outcome.REFUSED:
            await self._written(items, self._started().bury(items[0].id, why))
        else:
            await self._written(items, self._started().remove([item.id for item in items]))
        return True

    async def _send_each(self, level: Level, items: Sequence[Item]) -> bool:
        """Send what was refused together one after the other; False once one stays."""
        for item in items:
            if not await self._send(level, [item]):
                return False
        return True

    async def _leave_out(self, level: Level, item: Item) -> bool:
        _log.error(
            "exporter %s: request %d of its queue is damaged on the disk, and is left out",
            self._settings.name, item.id,
        )  # fmt: skip
        self._account.drop(Request(item.signal, b"", item.items), "storage_damaged")
        self._forget(level, [item])
        await self._written([item], self._started().bury(item.id, "damaged on the disk"))
        return True

    def _forget(self, level: Level, items: Sequence[Item]) -> None:
        for item in items:
            self._held[item.signal] -= item.items
            level.gone(item)

    async def _written(self, items: Sequence[Item], change: Awaitable[None]) -> None:
        """Wait for the change; what cannot be removed is sent again by the next life."""
        try:
            await change
        except errors.StorageError as error:
            _log.error("exporter %s cannot remove what it sent: %s", self._settings.name, error)
        self._room.give_back(total(map(size_of, items)))

    async def _write(self, items: Items, request: Request, size: Size) -> None:
        try:
            while not await self._is_written(items, request):
                pass
        except errors.Refused:
            self._room.give_back(size)
            raise
        self._add(request.signal, request.weight, size)

    async def _is_written(self, items: Items, request: Request) -> bool:
        """Write it; False if the file was full and another has given way, so it can be tried."""
        try:
            await items.add(request.signal, request.items, request.body, request.weight)
        except errors.StorageError as error:
            is_full = error.reason == "queue_full"
            if is_full and await self._limit.make_room(request.weight, len(request.body)):
                return False
            is_by_limit = is_full or error.reason == "too_large"
            refused = errors.Refused if is_by_limit else NotWritten
            raise refused(str(error), reason=error.reason) from error
        return True

    def _add(self, signal: Signal, weight: int, size: Size) -> None:
        self._held[signal] += size.items
        if weight not in self._levels:
            self._levels[weight] = Level(self._started(), weight, self._joining())
            if self._closed:
                self._levels[weight].close()
        self._levels[weight].came(size)
        self._senders.need(weight)

    async def _make_room(self, size: Size, weight: int) -> None:
        """Push out what came last of the lowest weights, or raise `errors.QueueFull`."""
        async with self._making_room:
            while not self._room.fits(size, weight):
                lower = [self._levels[one] for one in sorted(self._levels) if one < weight]
                waiting = total(level.waiting for level in lower)
                if not self._room.fits(size, weight, waiting):
                    raise self._room.full()
                lowest = next(level for level in lower if level.has_more)
                evicting = self._evict(lowest, lambda freed: self._room.fits(size, weight, freed))
                if not await asyncio.shield(asyncio.ensure_future(evicting)):
                    raise self._room.full()

    async def _evict(self, level: Level, is_enough: Callable[[Size], bool]) -> Sequence[Gone]:
        try:
            evicted = await level.evict(is_enough)
        except errors.StorageError as error:
            raise errors.Refused(str(error), reason=error.reason) from error
        for one in evicted:
            self._account.drop(Request(one.signal, b"", one.items), "evicted")
            self._held[one.signal] -= one.items
        self._room.give_back(total(map(size_of, evicted)))
        return evicted

    def _hold(self, request: Request, items: int) -> None:
        self._held[request.signal] += items

    def _has_more(self, weight: int) -> bool:
        level = self._levels.get(weight)
        return level is not None and level.has_more

    def _depths(self) -> dict[int, Depth]:
        return {
            weight: Depth(*level.size, oldest_s=level.oldest_s)
            for weight, level in self._levels.items()
        }

    def _size(self) -> int:
        size: int = getattr(self._room.used, self._config.sizer)
        return size

    def _started(self) -> Items:
        if self._items is None:
            raise errors.Refused("the exporter is not started", reason="shutdown")
        return self._items
