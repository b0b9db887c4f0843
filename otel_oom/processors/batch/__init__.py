"""Gathers items into larger batches, so that each request to a backend carries many.

Options and defaults are those of the collector's `batch` processor. It never holds more than
one full batch beside the one on its way: who brings more waits until there is room again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses

from otel_oom import errors
from otel_oom.config.types import Duration, Violations
from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.processors.batch import regroup


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `batch` processor."""

    send_batch_size: int = 8192
    """Items (log records, spans, metric data points) at which a batch is sent at once.
    Default 8192; 0 sends whatever arrives without waiting."""

    timeout: Duration = Duration(0.2)
    """Longest time that an item waits for others. Default 200ms; 0 does not wait."""

    send_batch_max_size: int = 0
    """Most items in one batch; larger ones are cut, in order. Default 0, which is no limit;
    otherwise at least `send_batch_size`."""

    metadata_keys: list[str] = dataclasses.field(default_factory=list)
    """Not supported: batches come from the kernel and carry no client metadata. Must be empty."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.send_batch_size < 0:
            yield ("send_batch_size",), "`send_batch_size` must not be negative"
        if self.timeout < 0:
            yield ("timeout",), "`timeout` must not be negative"
        if self.send_batch_max_size and self.send_batch_max_size < self.send_batch_size:
            text = (
                f"`send_batch_max_size` ({self.send_batch_max_size}) must be 0 or at least "
                f"`send_batch_size` ({self.send_batch_size})"
            )
            yield ("send_batch_max_size",), text
        if self.metadata_keys:
            text = "`metadata_keys` is not supported: there is no client metadata to batch by"
            yield ("metadata_keys",), text


class BatchProcessor:
    """Owns what it gathers until the next consumer has taken it, or it is counted as dropped."""

    def __init__(
        self, settings: component.Settings, config: Config, next_consumer: Consumer
    ) -> None:
        self._settings = settings
        self._config = config
        self._next = next_consumer
        self._pending: list[Batch] = []
        self._pending_items = 0
        self._held: collections.Counter[Signal] = collections.Counter()
        self._some, self._full, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None
        settings.ledger.hold(settings.name, lambda signal: self._held[signal])

    async def start(self) -> None:
        """Begin to send."""
        self._worker = asyncio.create_task(self._work(), name=self._settings.name)

    async def consume(self, batch: Batch) -> None:
        """Take a batch; wait first while a full one has not yet gone."""
        while not self._room.is_set():
            await self._room.wait()
        if self._stopping:
            raise errors.Refused("the batch processor has stopped", reason="shutdown")
        self._pending.append(batch)
        self._pending_items += batch.items
        self._held[batch.signal] += batch.items
        self._update()

    async def shutdown(self) -> None:
        """Send what is held; if that is cancelled, the rest is dropped for `shutdown`."""
        self._stopping = True
        self._update()
        worker, self._worker = self._worker, None
        try:
            if worker:
                await worker
        finally:
            self._drop_rest()

    def _update(self) -> None:
        """Set the events to what is pending."""
        full = self._pending_items >= self._config.send_batch_size and bool(self._pending)
        _set(self._some, on=self._stopping or bool(self._pending))
        _set(self._full, on=self._stopping or full)
        _set(self._room, on=self._stopping or not full)

    async def _work(self) -> None:
        while await self._due():
            for alike in regroup.by_weight(self._take()):
                merged = regroup.merge(alike)
                most = self._config.send_batch_max_size or merged.items
                for batch in regroup.split(merged, most):
                    await self._send(batch)

    async def _due(self) -> bool:
        """Wait for a reason to send; False once the agent stops and nothing is left."""
        await self._some.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.timeout):
                await self._full.wait()
        return bool(self._pending)

    def _take(self) -> list[Batch]:
        taken, self._pending, self._pending_items = self._pending, [], 0
        self._update()
        return taken

    async def _send(self, batch: Batch) -> None:
        settings = self._settings
        try:
            await accounting.deliver_or_drop(self._next, batch, settings.ledger, settings.name)
        finally:
            self._held[batch.signal] -= batch.items

    def _drop_rest(self) -> None:
        for signal, items in (+self._held).items():
            self._settings.ledger.dropped(self._settings.name, signal, items, "shutdown")
        self._held.clear()
        self._pending.clear()


def _set(event: asyncio.Event, *, on: bool) -> None:
    if on:
        event.set()
    else:
        event.clear()


FACTORY = component.Factory(
    type_name="batch",
    kind=component.Kind.PROCESSOR,
    config=Config,
    create=BatchProcessor,
    signals=dict.fromkeys(Signal, component.Stability.BETA),
)
