"""The receiver `oom` before a sink that a test opens, shuts or lets refuse.

async with oom_bench.bench(tmp_path) as at:
    at.sink.open.clear()
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from doubles import memory_cgroup, oom_capture, sink

from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.receivers import oom
from otel_oom.receivers.oom.config import Config


class Bench:
    """The receiver, its sink, and what it reported of itself."""

    def __init__(self, state: pathlib.Path, **options: Any) -> None:
        self.statuses: list[component.Status] = []
        around = sink.Bench()
        self.ledger = around.ledger
        self.sink = sink.Sink(self.ledger)
        settings = dataclasses.replace(around.settings("oom"), report=self.statuses.append)
        config = Config(state_directory=str(state), **options)
        self.receiver = oom.OomReceiver(settings, config, dict.fromkeys(Signal, self.sink))

    @property
    def kills(self) -> list[oom_capture.Kill]:
        """All log records that came, also those of others on this machine."""
        return [
            oom_capture.Kill(record)
            for batch in self.sink.batches
            if batch.signal is Signal.LOGS
            for resource in batch.data.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def of(self, group: memory_cgroup.MemoryCgroup) -> list[oom_capture.Kill]:
        """Those of one cgroup."""
        return [k for k in self.kills if k.attributes.get("process.linux.cgroup") == group.name]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(oom_capture.PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.02)
        assert condition(), what


@contextlib.asynccontextmanager
async def bench(state: pathlib.Path, **options: Any) -> AsyncIterator[Bench]:
    """Start it with its books in `state`; stop it, and see that the sums close."""
    made = Bench(state, **options)
    await made.receiver.start()
    try:
        yield made
    finally:
        made.sink.open.set()
        await made.receiver.shutdown()
    assert [made.ledger.balance(signal).difference for signal in Signal] == [0, 0, 0]


def unplaced(at: Bench) -> list[oom_capture.Kill]:
    """Counter records of which no cgroup is known."""
    return [k for k in at.kills if "process.linux.cgroup" not in k.attributes]
