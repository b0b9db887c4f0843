"""A receiver that makes numbered items, installed the way another package would add one.

`install` writes the distribution; a process that has its folder and `tests/` on `PYTHONPATH`
finds the receiver `ticker` by its entry point.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
from collections.abc import Mapping

from doubles import sink
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_oom import errors
from otel_oom.pipeline import accounting, component, data
from otel_oom.pipeline.component import Check, Kind, Stability, State, Status
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Signal


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What it is to do."""

    items: int = 3
    """Items of each signal, one batch each. Default 3."""

    interval: float = 0.0
    """Seconds before each item. Default 0: all at once."""

    prefix: str = "tick"
    """Beginning of each log's body. Default `tick`."""

    start_error: str = ""
    """Text of the error that the start raises. Default none."""

    fatal: bool = False
    """Whether to fail for good once all is made. Default false."""

    missing: bool = False
    """Whether `doctor` finds that something is missing. Default false."""


class Ticker:
    """Makes the items in a task, as a receiver that reads a ring would."""

    def __init__(
        self, settings: component.Settings, config: Config, consumers: Mapping[Signal, Consumer]
    ) -> None:
        self._settings = settings
        self._config = config
        self._consumers = consumers
        self._task: asyncio.Task[None] | None = None
        self._made = 0

    async def start(self) -> None:
        if self._config.start_error:
            raise errors.ComponentError(self._config.start_error)
        self._task = asyncio.create_task(self._tick())

    async def shutdown(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    def summary(self) -> list[str]:
        return [f"made {self._made} items"]

    async def _tick(self) -> None:
        for number in range(self._config.items):
            await asyncio.sleep(self._config.interval)
            for signal, consumer in self._consumers.items():
                batch = _batch(signal, f"{self._config.prefix} {number}")
                self._made += batch.items
                self._settings.ledger.produced(self._settings.name, signal, batch.items)
                await accounting.deliver_or_drop(consumer, batch, self._settings.ledger)
        if self._config.fatal:
            self._settings.report(Status(State.FATAL_ERROR, "the clock is broken"))


def _batch(signal: Signal, text: str) -> data.Batch:
    if signal is Signal.LOGS:
        return sink.log_batch(text)
    if signal is Signal.TRACES:
        return data.traces(ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(name=text)])]))
    metric = Metric(name="ticks")
    metric.sum.data_points.append(NumberDataPoint(as_int=1))
    return data.metrics(ResourceMetrics(scope_metrics=[ScopeMetrics(metrics=[metric])]))


def _doctor(config: Config) -> list[Check]:
    return [
        Check("clock", not config.missing, "a clock", remedy="buy a clock"),
        Check("second hand", ok=False, detail="none", remedy="none needed", required=False),
    ]


FACTORY = component.Factory(
    type_name="ticker",
    kind=Kind.RECEIVER,
    config=Config,
    create=Ticker,
    signals=dict.fromkeys(Signal, Stability.ALPHA),
    doctor=_doctor,
)


def install(folder: pathlib.Path) -> dict[str, str]:
    """Write the distribution into a folder; returns the environment of a process that has it."""
    info = folder / "otel_oom_ticker-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: otel-oom-ticker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[otel_oom.receivers]\nticker = doubles.ticker:FACTORY\n"
    )
    tests = pathlib.Path(__file__).parent.parent
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{tests}"}
