"""How a batch goes from one component to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from otel_oom import errors
from otel_oom.pipeline import accounting
from otel_oom.pipeline.data import Batch


class Consumer(Protocol):
    """Takes batches. Processors and exporters are consumers; receivers are given one."""

    async def consume(self, batch: Batch) -> None:
        """Take the batch, or raise `errors.Refused`.

        Once this returns the batch is the consumer's: it is delivered, rejected, dropped with
        a reason, or held, and counted as such. If it raises, the caller still owns the batch.
        It may wait for room, but never longer than the component's own limit says.
        """


class FanOut:
    """Hands each batch to several consumers, with a copy for whoever may change it.

    Every further branch makes further copies of the items due (`accounting.Ledger.copied`),
    so that the sum closes. One branch that refuses does not stop the others: its items are
    dropped with the refusal's reason, because the batch cannot be half taken.
    """

    def __init__(
        self, branches: Sequence[tuple[Consumer, bool]], ledger: accounting.Ledger
    ) -> None:
        """`branches`: (consumer, may it change the batch?)."""
        self._branches = sorted(branches, key=lambda branch: not branch[1])
        self._ledger = ledger

    async def consume(self, batch: Batch) -> None:
        """Give the batch to every branch; those that change it get copies, the last may not."""
        self._ledger.copied(batch.signal, batch.items * (len(self._branches) - 1))
        last = len(self._branches) - 1
        for index, (consumer, mutates) in enumerate(self._branches):
            own = batch.copy() if mutates and index < last else batch
            try:
                await consumer.consume(own)
            except errors.Refused as refused:
                self._drop(batch, 1, refused.reason)
            except asyncio.CancelledError:  # the caller still owns, and counts, one of the rest
                self._drop(batch, last - index, "shutdown")
                raise

    def _drop(self, batch: Batch, branches: int, reason: str) -> None:
        if branches:
            self._ledger.dropped("pipeline", batch.signal, batch.items * branches, reason)
