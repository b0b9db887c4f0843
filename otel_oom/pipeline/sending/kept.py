"""A queue on a disk: what is accepted outlives the agent, until a destination has it.

A request is a row from its acceptance to its end. It is sent from there, oldest first; a crash
between its delivery and its removal sends it again (at least once), never not at all. What the
destination refuses for good goes to the dead letters with its reason, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import Awaitable, Iterable

from otel_oom import errors
from otel_oom.pipeline.component import Settings
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.items import Item, Items, Total
from otel_oom.pipeline.sending.account import Account, Outcome
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Request

_log = logging.getLogger(__name__)
_AHEAD = 16
"""Requests that are read at a time."""

_AGAIN_S = 1.0
"""After a reading that failed."""


class Kept:
    """The entry of an exporter whose queue is in a storage."""

    def __init__(self, config: QueueConfig, account: Account, settings: Settings) -> None:
        self._config = config
        self._account = account
        self._settings = settings
        self._held: collections.Counter[Signal] = collections.Counter()
        self._size = 0
        self._read: collections.deque[Item] = collections.deque()
        self._last_id = 0
        self._reading = asyncio.Lock()
        self._came = asyncio.Event()
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._items: Items | None = None
        settings.ledger.hold(settings.name, self._held.__getitem__)
        settings.ledger.gauge("exporter_queue_size", settings.name, lambda: self._size)
        settings.ledger.gauge("exporter_queue_capacity", settings.name, lambda: config.capacity)

    async def start(self) -> None:
        """Take over what an earlier life left, and begin to send."""
        storage = self._settings.storages.find(str(self._config.storage))
        try:
            self._items = Items(storage.database(), self._settings.name)
            self._recover(await self._items.totals())
        except errors.StorageError as error:
            raise errors.ComponentError(str(error)) from error
        storage.listen(self._settings.name, self._recover)
        consumers = range(self._config.num_consumers)
        self._tasks = [asyncio.create_task(self._work()) for _ in consumers]

    async def accept(self, request: Request) -> None:
        """Keep the request, or raise `errors.Refused`."""
        items = self._started()
        size = self._measure(1, request.items, len(request.body))
        if self._closed:
            raise errors.Refused("the exporter is stopped", reason="shutdown")
        if self._size + size > self._config.capacity:
            raise errors.QueueFull(
                f"the sending queue is full ({self._config.capacity} {self._config.sizer})"
            )
        self._size += size  # before it is written, so that others do not take the same room
        adding = asyncio.ensure_future(self._add(items, request, size))
        try:
            await asyncio.shield(adding)
        except asyncio.CancelledError:
            with contextlib.suppress(errors.Refused):
                await adding
                # The caller counts it as dropped; then ours is a copy.
                self._settings.ledger.copied(request.signal, request.items)
            raise

    async def shutdown(self) -> None:
        """Send what can be sent in the time that the caller gives; the rest stays on the disk."""
        self._closed = True
        self._came.set()
        tasks, self._tasks = self._tasks, []
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _recover(self, totals: Iterable[Total]) -> None:
        """Take over what is on the disk and nobody in this life had accepted."""
        for total in totals:
            self._held[total.signal] += total.items
            self._size += self._measure(total.requests, total.items, total.bytes)
            self._settings.ledger.recovered(self._settings.name, total.signal, total.items)
        self._came.set()

    async def _work(self) -> None:
        while item := await self._next():
            if not await self._send(item):
                return

    async def _send(self, item: Item) -> bool:
        """Send one to its end; False if it stays, because the agent stops."""
        if not item.is_whole:
            return await self._leave_out(item)
        request = Request(item.signal, item.body, item.items)
        outcome, why = await self._account.settle(request, keeps=True)
        if outcome is Outcome.STOPPED:
            return False
        self._held[item.signal] -= item.items  # with the count, before anything else can run
        if outcome is Outcome.REFUSED:
            await self._written(item, self._started().bury(item.id, why))
        else:
            await self._written(item, self._started().remove([item.id]))
        return True

    async def _leave_out(self, item: Item) -> bool:
        _log.error(
            "exporter %s: request %d of its queue is damaged on the disk, and is left out",
            self._settings.name, item.id,
        )  # fmt: skip
        self._account.drop(Request(item.signal, b"", item.items), "storage_damaged")
        self._held[item.signal] -= item.items
        await self._written(item, self._started().bury(item.id, "damaged on the disk"))
        return True

    async def _written(self, item: Item, change: Awaitable[None]) -> None:
        """Wait for the change; what cannot be removed is sent again by the next life."""
        try:
            await change
        except errors.StorageError as error:
            _log.error("exporter %s cannot remove what it sent: %s", self._settings.name, error)
        self._size -= self._measure(1, item.items, len(item.body))

    async def _next(self) -> Item | None:
        """The oldest that nobody has taken; None once the queue is closed and all were taken."""
        async with self._reading:
            while not self._read:
                self._came.clear()
                found = await self._fetch()
                if not found and self._closed:
                    return None
                if not found:
                    await self._came.wait()
            return self._read.popleft()

    async def _fetch(self) -> bool:
        try:
            found = await self._started().after(self._last_id, _AHEAD)
        except errors.StorageError as error:
            _log.error("exporter %s cannot read its queue: %s", self._settings.name, error)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._came.set)
            return False
        self._read.extend(found)
        if found:
            self._last_id = found[-1].id
        return bool(found)

    async def _add(self, items: Items, request: Request, size: int) -> None:
        try:
            await items.add(request.signal, request.items, request.body, is_critical=True)
        except errors.StorageError as error:
            self._size -= size
            raise errors.Refused(str(error), reason=error.reason) from error
        self._held[request.signal] += request.items
        self._came.set()

    def _started(self) -> Items:
        if self._items is None:
            raise errors.Refused("the exporter is not started", reason="shutdown")
        return self._items

    def _measure(self, requests: int, items: int, bytes_: int) -> int:
        return {"requests": requests, "items": items, "bytes": bytes_}[self._config.sizer]
