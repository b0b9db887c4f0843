"""What every test of an exporter needs: settings, batches of every kind, the sum that closes."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from otel_oom.config.types import ComponentId
from otel_oom.pipeline import otlp
from otel_oom.pipeline.accounting import Ledger
from otel_oom.pipeline.component import Settings, State, Status
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.pipeline.resources.monitor import Monitor
from otel_oom.pipeline.sending.retry import RetryConfig

FAST = RetryConfig(initial_interval=0.01, max_interval=0.02, max_elapsed_time=60)


class Board:
    """An agent that is fine."""

    def statuses(self) -> dict[str, Status]:
        return {}

    def ready(self) -> bool:
        return True

    def started_at_s(self) -> float:
        return 0.0


class Calm(Monitor):
    """A host on which nothing waits, whatever the machine of the test does."""

    def idleness(self) -> float:
        return 1.0


class Agent:
    """The rest of the agent as an exporter meets it: a ledger, statuses, and a caller.

    `consume` produces a batch and hands it over, holding it until it is taken, as a batcher
    does; so the sum must close at every instant, also while an exporter makes it wait.
    """

    def __init__(self, name: str = "otlp_grpc/test") -> None:
        self.ledger = Ledger()
        self.statuses: list[Status] = []
        self._held: collections.Counter[Signal] = collections.Counter()
        self.ledger.hold("caller", self._held.__getitem__)
        self.settings = Settings(
            id=ComponentId.parse(name),
            ledger=self.ledger,
            report=self.statuses.append,
            board=Board(),
            version="1.2.3",
            resources=Calm(),
        )

    async def consume(self, exporter, batch: Batch) -> None:
        """Hand a batch over; a refusal is counted as dropped and raised for the test to see."""
        self.ledger.produced("caller", batch.signal, batch.items)
        self._held[batch.signal] += batch.items
        try:
            await exporter.consume(batch)
        except Exception as failure:
            self.ledger.dropped(
                "caller", batch.signal, batch.items, getattr(failure, "reason", "?")
            )
            raise
        except asyncio.CancelledError:
            self.ledger.dropped("caller", batch.signal, batch.items, "shutdown")
            raise
        finally:
            self._held[batch.signal] -= batch.items

    def check(self) -> None:
        """The sum closes for every signal."""
        for signal in Signal:
            balance = self.ledger.balance(signal)
            assert balance.difference == 0, f"{signal}: {balance}"

    def sum(self, signal: Signal = Signal.LOGS) -> dict[str, int]:
        """What became of a signal's items, without the zeros; it also checks the sum."""
        self.check()
        balance = self.ledger.balance(signal)
        counts = {
            "delivered": balance.delivered,
            "rejected": balance.rejected,
            "held": balance.held,
            **balance.dropped,
        }
        return {name: items for name, items in counts.items() if items}

    def counter(self, name: str) -> int:
        """One self-telemetry counter over all signals."""
        return sum(items for of, _, _, _, items in self.ledger.rows() if of == name)

    def states(self) -> list[State]:
        """The states reported so far."""
        return [status.state for status in self.statuses]


@contextlib.asynccontextmanager
async def started(module: Any, **config: Any) -> AsyncIterator[tuple[Agent, Any]]:
    """A started exporter in an agent; at the end the sum closes and nothing is held."""
    agent = Agent(module.FACTORY.type_name)
    values = {"retry_on_failure": FAST, **config}
    exporter = module.FACTORY.create(agent.settings, module.Config(**values))
    await exporter.start()
    try:
        yield agent, exporter
    finally:
        await exporter.shutdown()
        assert "held" not in agent.sum()


async def settled(agent: Agent, signal: Signal = Signal.LOGS) -> dict[str, int]:
    """Wait until nothing is held, and return the sum."""
    async with asyncio.timeout(30):
        while "held" in agent.sum(signal):
            await asyncio.sleep(0.005)
    return agent.sum(signal)


def logs(*names: str, resource: str = "r") -> Batch:
    """A batch of log records with the given event names, in one resource and scope."""
    return Batch.of(
        LogsData(
            resource_logs=[
                ResourceLogs(
                    resource=_resource(resource),
                    scope_logs=[
                        ScopeLogs(
                            scope=_SCOPE,
                            log_records=[
                                LogRecord(
                                    event_name=name,
                                    time_unix_nano=1_700_000_000_000_000_000 + index,
                                    body=otlp.any_value(f"record {name}"),
                                    attributes=[otlp.key_value("process.pid", index)],
                                    trace_id=bytes(range(16)),
                                    span_id=bytes(range(8)),
                                )
                                for index, name in enumerate(names)
                            ],
                        )
                    ],
                    schema_url="https://example.org/schema",
                )
            ]
        )
    )


def spans(*names: str) -> Batch:
    """A batch of spans."""
    return Batch.of(
        TracesData(
            resource_spans=[
                ResourceSpans(
                    resource=_resource("r"),
                    scope_spans=[
                        ScopeSpans(
                            scope=_SCOPE,
                            spans=[
                                Span(name=name, trace_id=b"t" * 16, span_id=b"s" * 8)
                                for name in names
                            ],
                        )
                    ],
                )
            ]
        )
    )


def points(*values: int) -> Batch:
    """A batch of data points of one sum."""
    return Batch.of(
        MetricsData(
            resource_metrics=[
                ResourceMetrics(
                    resource=_resource("r"),
                    scope_metrics=[
                        ScopeMetrics(
                            scope=_SCOPE,
                            metrics=[
                                Metric(
                                    name="oom.kills",
                                    unit="{kill}",
                                    sum=Sum(
                                        is_monotonic=True,
                                        aggregation_temporality=2,
                                        data_points=[NumberDataPoint(as_int=v) for v in values],
                                    ),
                                )
                            ],
                        )
                    ],
                )
            ]
        )
    )


_SCOPE = InstrumentationScope(name="otel_oom.test", version="1")


def _resource(name: str) -> Resource:
    return Resource(attributes=[otlp.key_value("service.name", name)])


def event_name(body: bytes) -> str:
    """The name of the first record of a request for logs."""
    message = LogsData.FromString(body)
    return message.resource_logs[0].scope_logs[0].log_records[0].event_name
