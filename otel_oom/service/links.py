"""What the service puts between the components of a pipeline."""

from __future__ import annotations

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


class Weighing:
    """Stands where a pipeline begins: gives each batch of one receiver its weight."""

    def __init__(self, weight: int, consumer: Consumer) -> None:
        self._weight = weight
        self._consumer = consumer

    async def consume(self, batch: Batch) -> None:
        """Hand it on with its weight."""
        await self._consumer.consume(batch.weighing(self._weight))
