"""An exporter whose queue is in a directory, in a real loop: SQLite has a thread of its own.

async with keeping.running(tmp_path, destination) as (agent, exporter):
    await agent.consume(exporter, exporting.logs("a"))
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from doubles import exporting

from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.extensions import file_storage
from otel_oom.pipeline.sending.chain import Exporter
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import RetryConfig

FAST = RetryConfig(initial_interval=0.001, max_interval=0.002, max_elapsed_time=0.002)
LONG_S = 30.0


class Destination:
    """Takes what comes while it is up, else it cannot be reached. `bodies` is what it has."""

    def __init__(self, *, is_up: bool = True) -> None:
        self.is_up = is_up
        self.refused: Exception | None = None
        self.bodies: list[bytes] = []
        self.tries = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, request: Request) -> Answer:
        self.tries += 1
        await asyncio.sleep(0)
        if self.refused:
            raise self.refused
        if not self.is_up:
            raise errors.Retryable("it is away")
        self.bodies.append(request.body)
        return Answer()


@contextlib.asynccontextmanager
async def running(
    folder: pathlib.Path,
    destination: Destination,
    name: str = "otlp_http/test",
    *,
    disk_reserve_mib: int = 0,
    retry: RetryConfig = FAST,
    **queue: Any,
) -> AsyncIterator[tuple[exporting.Agent, Exporter]]:
    """A started chain over a started storage; both are stopped, and the sum closes."""
    agent = exporting.Agent(name)
    storage = started_storage(agent, folder, disk_reserve_mib)
    exporter = Exporter(
        agent.settings,
        destination,
        queue=QueueConfig(**{"storage": "file_storage", "num_consumers": 1, **queue}),
        retry=retry,
        timeout_s=0.0,
    )
    try:
        await storage.start()
        await exporter.start()
        yield agent, exporter
    finally:
        await exporter.shutdown()
        await storage.shutdown()
        agent.check()


def started_storage(
    agent: exporting.Agent, folder: pathlib.Path, disk_reserve_mib: int = 0
) -> file_storage.FileStorage:
    """The extension of an agent, not started yet."""
    config = file_storage.Config(directory=str(folder), disk_reserve_mib=disk_reserve_mib)
    settings = dataclasses.replace(agent.settings, id=ComponentId.parse("file_storage"))
    return file_storage.FileStorage(settings, config)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.001)
