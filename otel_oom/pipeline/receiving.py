"""What receivers that read a ring share: an outbox, and tasks whose end is told.

The ring is never read behind the network: a receiver puts batches into its outbox, and a task of
its own hands them on. If the outbox is full, the receiver leaves its ring alone until there is
room, and what then finds no room in the ring is counted there.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable, Coroutine, Mapping

from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch, Signal

logger = logging.getLogger(__name__)

_FULL_BATCHES = 256


class Outbox:
    """Batches that a receiver has made and not handed on yet."""

    def __init__(self, settings: component.Settings, consumers: Mapping[Signal, Consumer]) -> None:
        self._settings = settings
        self._consumers = consumers
        self._batches: collections.deque[Batch] = collections.deque()
        self._wake = asyncio.Event()
        self._is_ending = False

    @property
    def is_full(self) -> bool:
        """Whether the receiver should leave what it reads where it is; nothing is refused."""
        return len(self._batches) >= _FULL_BATCHES

    def held(self, signal: Signal) -> int:
        """Items that wait, for `accounting.Ledger.hold`."""
        return sum(batch.items for batch in self._batches if batch.signal is signal)

    def put(self, batch: Batch | None) -> None:
        """Count a batch as produced and let it be handed on, if a pipeline wants its signal."""
        if batch is None or not batch.items or batch.signal not in self._consumers:
            return
        self._settings.ledger.produced(self._settings.name, batch.signal, batch.items)
        self._batches.append(batch)
        self._wake.set()

    async def send(self, on_room: Callable[[], None]) -> None:
        """Hand on what comes until `end`; each time that nothing is left, `on_room` is told."""
        while self._batches or not self._is_ending:
            await self._wake.wait()
            self._wake.clear()
            await self._send_all()
            on_room()

    def end(self) -> None:
        """Let `send` return once everything is handed on."""
        self._is_ending = True
        self._wake.set()

    def drop(self) -> None:
        """Give up what is left, because the service ran out of patience; it is counted."""
        while self._batches:
            batch = self._batches.popleft()
            self._settings.ledger.dropped(
                self._settings.name, batch.signal, batch.items, "shutdown"
            )

    async def _send_all(self) -> None:
        """A batch leaves the outbox before it is another's to account for."""
        while self._batches:
            batch = self._batches.popleft()
            await accounting.deliver_or_drop(
                self._consumers[batch.signal], batch, self._settings.ledger, self._settings.name
            )


def supervised(
    settings: component.Settings, work: Coroutine[None, None, None], name: str
) -> asyncio.Task[None]:
    """Start a task. None ends by itself; one that fails is a bug, and the health must say so."""

    def on_done(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("%s stopped working", name, exc_info=error)
            detail = f"{name} stopped working: {error!r}"
            settings.report(component.Status(component.State.PERMANENT_ERROR, detail))

    task = asyncio.get_running_loop().create_task(work, name=name)
    task.add_done_callback(on_done)
    return task
