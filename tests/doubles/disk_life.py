"""A small life of an agent's queue on a disk, which tells an outsider what it did.

`live` accepts critical records while its destination is up for the first of them only; it says each
that is accepted, and its destination each that came, as a line into a pipe: the outsider's log is
what the outsider read.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import Iterable

from doubles import exporting, keeping
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom.pipeline import weights
from otel_oom.pipeline.sending.request import Answer, Request


class Destination(keeping.Destination):
    """Tells what comes; it is away after the first so many."""

    def __init__(self, told: int, most: int) -> None:
        super().__init__()
        self._told = told
        self._most = most

    async def send(self, request: Request) -> Answer:
        self.is_up = len(self.bodies) < self._most
        if self.is_up:
            os.write(self._told, f"came {name_of(request.body)}\n".encode())
        return await super().send(request)


def live(folder: pathlib.Path, names: Iterable[str], told: int, most: int) -> None:
    """Accept these, then stop as an agent does."""
    asyncio.run(_live(folder, names, told, most))


async def _live(folder: pathlib.Path, names: Iterable[str], told: int, most: int) -> None:
    destination = Destination(told, most)
    async with keeping.running(folder, destination) as (agent, exporter):
        for name in names:
            await agent.consume(exporter, exporting.logs(name).weighing(weights.CRITICAL))
            os.write(told, f"accepted {name}\n".encode())
        await keeping.until(lambda: destination.tries > most or "held" not in agent.sum())


async def deliver(folder: pathlib.Path) -> tuple[list[str], int]:
    """A whole life on what is there, which also takes one new; the names that came.

    And how many items it says that damage took.
    """
    destination = keeping.Destination()
    async with keeping.running(folder, destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("new").weighing(weights.CRITICAL))
        await keeping.until(lambda: "held" not in agent.sum())
    names = [name_of(body) for body in destination.bodies]
    assert names.pop() == "new"
    return names, agent.sum().get("storage_damaged", 0)


def name_of(body: bytes) -> str:
    """The name of the one record of a request."""
    records = LogsData.FromString(body).resource_logs[0].scope_logs[0].log_records
    return records[0].event_name
