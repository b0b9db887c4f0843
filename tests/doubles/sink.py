"""A consumer that keeps what it is given, and the settings that a component needs in a test."""

from __future__ import annotations

import asyncio

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs

from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting, component, data, otlp, views
from otel_oom.service import board


class Sink:
    """Takes everything, and counts it as delivered if it is given a ledger."""

    def __init__(self, ledger: accounting.Ledger | None = None, name: str = "sink") -> None:
        self.batches: list[data.Batch] = []
        self.refusal: errors.Refused | None = None
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self._name = name
        self._ledger = ledger
        self._arrived = asyncio.Condition()

    @property
    def items(self) -> int:
        return sum(batch.items for batch in self.batches)

    async def consume(self, batch: data.Batch) -> None:
        """Take the batch; wait while `open` is cleared, raise what is set to be raised."""
        await self.open.wait()
        if error := self.refusal or self.failure:
            raise error
        self.batches.append(batch)
        if self._ledger:
            self._ledger.delivered(self._name, batch.signal, batch.items)
        async with self._arrived:
            self._arrived.notify_all()

    async def wait_for_items(self, items: int) -> None:
        """Return once that many items have come in all."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: self.items >= items)

    def bodies(self) -> list[otlp.Value]:
        """The bodies of all log records, in the order in which they came."""
        return [
            otlp.python_value(record.body)
            for batch in self.batches
            for resource in batch.data.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


class Bench:
    """A ledger, a board and settings: what surrounds a component."""

    def __init__(self) -> None:
        self.ledger = accounting.Ledger()
        self.board = board.StatusBoard()
        self.views = views.Views()

    def settings(self, id_: str) -> component.Settings:
        return component.Settings(
            id=ComponentId.parse(id_),
            ledger=self.ledger,
            report=self.board.reporter(id_),
            board=self.board,
            version="0.0.0",
            views=self.views,
        )


def log_batch(
    *bodies: str,
    severity: int = 9,
    resource: dict[str, otlp.Value] | None = None,
    scope: str = "test",
    **attributes: otlp.Value,
) -> data.Batch:
    """Log records of one resource and scope, one for each body."""
    records = [
        LogRecord(
            body=otlp.any_value(body),
            severity_number=severity,
            attributes=otlp.key_values(attributes),
        )
        for body in bodies
    ]
    scope_logs = ScopeLogs(log_records=records)
    scope_logs.scope.name = scope
    message = ResourceLogs(scope_logs=[scope_logs])
    message.resource.attributes.extend(otlp.key_values(resource or {}))
    return data.Batch.of(LogsData(resource_logs=[message]))
