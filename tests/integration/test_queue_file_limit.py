"""The file of a storage stays as large as it may be: who goes first, and what is kept."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Iterator

import pytest
from doubles import exporting, keeping

from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.extensions import file_storage
from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.sending.chain import Exporter
from otel_oom.pipeline.sending.queue import QueueConfig

MAX_BYTES = 1 << 20
LOG_BYTES = 8 << 20
"""Beside the file: its log is written into it every 4 MiB."""


@contextlib.asynccontextmanager
async def shared(
    folder: pathlib.Path, *destinations: keeping.Destination
) -> AsyncIterator[tuple[exporting.Agent, list[Exporter]]]:
    """Exporters whose queues are in one small file."""
    agent = exporting.Agent("otlp_http/0")
    settings = dataclasses.replace(agent.settings, id=ComponentId.parse("file_storage"))
    config = file_storage.Config(directory=str(folder), max_size=MAX_BYTES, disk_reserve_mib=0)
    storage = file_storage.FileStorage(settings, config)
    queue = QueueConfig(storage="file_storage")
    exporters = [
        Exporter(
            dataclasses.replace(agent.settings, id=ComponentId.parse(f"otlp_http/{number}")),
            destination,
            queue=queue,
            retry=keeping.FAST,
            timeout_s=0.0,
        )
        for number, destination in enumerate(destinations)
    ]
    await storage.start()
    try:
        for exporter in exporters:
            await exporter.start()
        yield agent, exporters
    finally:
        for exporter in exporters:
            await exporter.shutdown()
        await storage.shutdown()
        agent.check()


def of(weight: int, name: str, size_bytes: int = 2000) -> Batch:
    return exporting.logs(name + " " * size_bytes).weighing(weight)


def sizes(folder: pathlib.Path) -> Iterator[tuple[str, int]]:
    for path in folder.glob("queue.db*"):
        yield path.name, path.stat().st_size


def check_sizes(folder: pathlib.Path) -> None:
    found = dict(sizes(folder))
    assert found["queue.db"] <= MAX_BYTES
    assert sum(found.values()) <= MAX_BYTES + LOG_BYTES


async def fill(agent: exporting.Agent, exporter: Exporter, weight: int) -> int:
    """Until it refuses."""
    for number in range(10_000):
        try:
            await agent.consume(exporter, of(weight, f"{weight} {number}"))
        except errors.Refused as refused:
            if refused.reason != "queue_full":
                raise
            return number
    raise AssertionError("it took all")


async def test_the_lowest_goes_first_whosever_it_is_and_the_file_stays_as_large(tmp_path):
    low, high = keeping.Destination(is_up=False), keeping.Destination(is_up=False)
    async with shared(tmp_path, low, high) as (agent, (first, second)):
        metrics = await fill(agent, first, 3)
        assert metrics * len(of(3, "").encoded()) > MAX_BYTES * 0.5
        slow = await fill(agent, second, 5)
        kills = await fill(agent, second, 10)
        check_sizes(tmp_path)
        found = agent.sum()
        assert found["evicted"] == metrics + slow - 2, "but what is on its way"
        assert found["held"] == kills + 2
        assert found["queue_full"] == 3
        low.is_up = high.is_up = True
        await keeping.until(lambda: "held" not in agent.sum())
    assert (len(low.bodies), len(high.bodies)) == (1, kills + 1)
    check_sizes(tmp_path)


async def test_a_tenth_is_for_kills_alone(tmp_path):
    destination = keeping.Destination(is_up=False)
    async with shared(tmp_path, destination) as (agent, (exporter,)):
        await fill(agent, exporter, 9)
        for number in range(20):
            await agent.consume(exporter, of(10, f"{number}"))
        assert "evicted" not in agent.sum()


async def test_what_can_never_fit_pushes_nothing_out(tmp_path):
    destination = keeping.Destination(is_up=False)
    async with shared(tmp_path, destination) as (agent, (exporter,)):
        await agent.consume(exporter, of(3, "a"))
        with pytest.raises(errors.Refused, match="can never fit") as refused:
            await agent.consume(exporter, of(10, "b", MAX_BYTES))
        assert refused.value.reason == "too_large"
        assert agent.sum() == {"held": 1, "too_large": 1}


async def test_dead_letters_go_before_what_is_alive(tmp_path):
    destination = keeping.Destination()
    destination.refused = errors.Permanent("400 no")
    async with shared(tmp_path, destination) as (agent, (exporter,)):
        for number in range(150):
            await agent.consume(exporter, of(5, f"{number}", 8000))
            await keeping.until(lambda: "held" not in agent.sum())
        check_sizes(tmp_path)
        assert agent.sum() == {"rejected": 150}
        destination.refused = None
        await agent.consume(exporter, of(5, "good"))
        await keeping.until(lambda: agent.sum() == {"rejected": 150, "delivered": 1})


async def test_round_after_round_the_files_do_not_grow(tmp_path):
    destination = keeping.Destination(is_up=False)
    async with shared(tmp_path, destination) as (agent, (exporter,)):
        for _ in range(4):
            destination.is_up = False
            await fill(agent, exporter, 5)
            check_sizes(tmp_path)
            destination.is_up = True
            await keeping.until(lambda: "held" not in agent.sum())
            check_sizes(tmp_path)
