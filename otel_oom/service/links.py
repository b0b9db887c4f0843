"""What the service puts between the components of a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from otel_oom import errors
from otel_oom.pipeline import accounting
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch

_LOG = logging.getLogger(__name__)


class Guard:
    """Stands before a consumer: what an unexpected error breaks off is counted, never lost."""

    def __init__(self, key: str, consumer: Consumer, ledger: accounting.Ledger) -> None:
        self._key = key
        self._consumer = consumer
        self._ledger = ledger
        self._last = ""

    async def consume(self, batch: Batch) -> None:
        """Hand the batch on; only `errors.Refused` comes back."""
        try:
            await self._consumer.consume(batch)
        except errors.Refused:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the sum must close
            name = self._key.partition("/")[2]
            self._ledger.dropped(name, batch.signal, batch.items, "internal_error")
            self._log_change(error)

    def _log_change(self, error: Exception) -> None:
        """Log a traceback when the error is another than the last time, not for every batch."""
        if repr(error) != self._last:
            self._last = repr(error)
            _LOG.error("%s: a bug dropped a batch: %r", self._key, error, exc_info=error)


class Switch:
    """Stands between a receiver that goes on and what a reload changes behind it.

    While it is closed, who hands a batch on waits, and still owns it.
    """

    def __init__(self) -> None:
        self._then: Consumer | None = None
        self._open = asyncio.Event()
        self._inside = 0
        self._left = asyncio.Event()

    async def consume(self, batch: Batch) -> None:
        """Hand it on; what the old side refuses because it stops goes to the new one."""
        while True:
            await self._open.wait()
            then = self._then
            if then is None:
                raise errors.Refused("nothing is behind it", reason="shutdown")
            try:
                await self._hand_on(then, batch)
            except errors.Refused as refused:
                if refused.reason != "shutdown" or self._open.is_set():
                    raise
            else:
                return

    async def close(self, patience_s: float) -> None:
        """Let nothing in, and wait until nobody is inside, or for as long as that."""
        self._open.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._inside:
                    self._left.clear()
                    await self._left.wait()

    def open(self, then: Consumer) -> None:
        """Let in again what comes, to there."""
        self._then = then
        self._open.set()

    async def _hand_on(self, then: Consumer, batch: Batch) -> None:
        self._inside += 1
        try:
            await then.consume(batch)
        finally:
            self._inside -= 1
            self._left.set()


class Weighing:
    """Stands where a pipeline begins: gives each batch of one receiver its weight."""

    def __init__(self, weight: int, consumer: Consumer) -> None:
        self._weight = weight
        self._consumer = consumer

    async def consume(self, batch: Batch) -> None:
        """Hand it on with its weight."""
        await self._consumer.consume(batch.weighing(self._weight))
