"""Where an exporter's requests ended, counted once each in the ledger."""

from __future__ import annotations

import enum
import logging
from typing import NamedTuple

from otel_oom import errors
from otel_oom.pipeline.component import Settings
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.observe import Condition, Journal
from otel_oom.pipeline.sending.request import Answer, Request, Sender

_log = logging.getLogger(__name__)


class Outcome(enum.Enum):
    """What became of a request, as far as who holds it must know."""

    TAKEN = enum.auto()
    REFUSED = enum.auto()
    DROPPED = enum.auto()
    STOPPED = enum.auto()
    """Nothing yet, and it was not counted: the agent stops, and its holder keeps it."""

    DIVIDED = enum.auto()
    """Refused, and not counted: its holder has the parts that it was joined of, and sends each."""


class Settled(NamedTuple):
    """How a request ended; `why` has the words of who did not take it."""

    outcome: Outcome
    why: str = ""


class Account:
    """Counts the final outcome of each request; nothing but a cancellation goes through it."""

    def __init__(self, settings: Settings, journal: Journal, then: Sender) -> None:
        self._ledger = settings.ledger
        self._name = settings.name
        self._leftovers = settings.leftovers
        self._journal = journal
        self._then = then

    async def settle(self, request: Request, *, keeps: bool = False) -> Settled:
        """Send to the end and count it, with no suspension between outcome, count and return.

        `keeps`: whether who holds it keeps what the stop of the agent breaks off, and the parts of
        what was joined: if that is refused for good, each of them has its own chance.
        """
        try:
            answer = await self._then.send(request)
        except errors.Permanent as failure:
            if keeps and request.requests > 1:
                return Settled(Outcome.DIVIDED, str(failure))
            self._count("exporter_send_failed", request, request.items)
            self._ledger.rejected(self._name, request.signal, request.items)
            return Settled(Outcome.REFUSED, str(failure))
        except errors.GaveUp as failure:
            if failure.reason == "shutdown" and (keeps or self._comes_back()):
                return Settled(Outcome.STOPPED, str(failure))
            self._journal.note(Condition.DROPPING, str(failure))
            self.drop(request, failure.reason)
        except Exception:  # noqa: BLE001  # one request must not end the consumer
            _log.exception("exporter %s failed unexpectedly, which is a bug", self._name)
            self.drop(request, "internal_error")
        else:
            self._taken(request, answer)
            return Settled(Outcome.TAKEN)
        return Settled(Outcome.DROPPED)

    def _comes_back(self) -> bool:
        return self._leftovers.are_expected(self._name)

    def drop(self, request: Request, reason: str) -> None:
        """Count a request that is given up after the exporter had taken it."""
        self._count("exporter_send_failed", request, request.items)
        self._ledger.dropped(self._name, request.signal, request.items, reason)

    def drop_refused(self, request: Request, reason: str) -> None:
        """Count a part that the queue refused of a batch that the exporter had taken."""
        self._ledger.dropped(self._name, request.signal, request.items, reason)

    def too_large(self, batch: Batch) -> None:
        """Count a batch that no request can hold."""
        _log.error(
            "exporter %s drops %d %s: a single item is larger than a request may be (%d bytes)",
            self._name, batch.items, batch.signal, limits.MAX_REQUEST_BYTES,
        )  # fmt: skip
        self._ledger.dropped(self._name, batch.signal, batch.items, "too_large")

    def refused(self, signal: Signal, items: int) -> None:
        """Count what the queue did not take; it still belongs to the caller."""
        self._ledger.count("exporter_enqueue_failed", self._name, signal, items)

    def _taken(self, request: Request, answer: Answer) -> None:
        rejected = min(max(answer.rejected, 0), request.items)
        delivered = request.items - rejected
        self._ledger.delivered(self._name, request.signal, delivered)
        self._count("exporter_sent", request, delivered)
        if rejected:
            self._ledger.rejected(self._name, request.signal, rejected)
            self._count("exporter_send_failed", request, rejected)

    def _count(self, name: str, request: Request, items: int) -> None:
        self._ledger.count(name, self._name, request.signal, items)
