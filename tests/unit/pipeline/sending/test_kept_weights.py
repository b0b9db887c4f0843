"""A queue on a disk serves by weight, makes room lowest weight first, and joins what it may."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import sqlite3
from typing import Any

import pytest
from doubles import exporting, keeping
from doubles.keeping import until
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom import errors
from otel_oom.pipeline.accounting import Depth
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.request import Answer, Request


class Destination(keeping.Destination):
    """Keeps requests; it refuses those that hold a name of `bad`, and stops while `gate` is shut."""

    def __init__(self, *, is_up: bool = True, bad: str = "") -> None:
        super().__init__(is_up=is_up)
        self.bad = bad
        self.requests: list[Request] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: Request) -> Answer:
        await self.gate.wait()
        if self.bad and self.bad.encode() in request.body:
            raise errors.Permanent(f"400 {self.bad} is bad")
        answer = await super().send(request)
        self.requests.append(request)
        return answer

    def names(self, weight: int | None = None) -> list[str]:
        """Event names of what it has."""
        return [
            record.event_name
            for request in self.requests
            if weight in (None, request.weight) and request.signal is Signal.LOGS
            for resource in LogsData.FromString(request.body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


def of(weight: int, *names: str) -> Batch:
    return exporting.logs(*(names or ("a",))).weighing(weight)


def rows(folder: pathlib.Path, columns: str, table: str = "items") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def change(folder: pathlib.Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute(statement)
        connection.commit()


async def test_a_kill_is_sent_though_what_is_lower_waits_and_is_stuck(tmp_path):
    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        destination.gate.clear()
        for number in range(200):
            await agent.consume(exporter, of(3, f"metric {number:03}"))
        await until(lambda: agent.sum() == {"held": 200})
        await agent.consume(exporter, of(10, "kill"))
        destination.gate.set()
        await until(lambda: len(destination.requests) > 2)
        assert "kill" in destination.names()[:3]
        await until(lambda: agent.sum() == {"delivered": 201})
    assert destination.names(3) == [f"metric {number:03}" for number in range(200)]


async def test_the_next_life_goes_on_by_weight_each_in_its_order(tmp_path):
    names = {weight: [f"{weight} {number:03}" for number in range(60)] for weight in (3, 5, 10)}
    async with keeping.running(tmp_path, Destination(is_up=False)) as (agent, exporter):
        for number in range(60):
            for weight in names:
                await agent.consume(exporter, of(weight, names[weight][number]))
    assert set(rows(tmp_path, "weight, count(*)", "items GROUP BY weight")) == {
        (3, 60), (5, 60), (10, 60)}  # fmt: skip

    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, _):
        await until(lambda: agent.sum() == {"delivered": 180})
    assert {weight: destination.names(weight) for weight in names} == names
    lower = [request.weight for request in destination.requests if request.weight < 10]
    assert lower[:60].count(3) >= 12, "at least a tenth, and by weight 4 of 10"


async def test_the_ledger_knows_what_there_is_of_each_weight(tmp_path):
    destination = Destination(is_up=False)
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        for batch in (of(3, "m"), of(3, "n", "o"), of(10, "kill")):
            await agent.consume(exporter, batch)
        depths = {weight: depth for _, weight, depth in agent.ledger.depths()}
        assert {weight: depth[:2] for weight, depth in astuples(depths)} == {3: (2, 3), 10: (1, 1)}
        await until(lambda: all(depth.oldest_s for _, _, depth in agent.ledger.depths()))
        destination.is_up = True
        await until(lambda: "held" not in agent.sum())
        assert {depth.requests for _, _, depth in agent.ledger.depths()} == {0}


def astuples(depths: dict[int, Depth]) -> list[tuple[int, tuple[Any, ...]]]:
    return [(weight, dataclasses.astuple(depth)) for weight, depth in depths.items()]


async def test_when_it_is_full_what_came_last_of_the_lowest_weight_goes(tmp_path):
    destination = Destination(is_up=False)
    queue = {"queue_size": 10, "reserve": 0.1}
    async with keeping.running(tmp_path, destination, **queue) as (agent, exporter):
        for number in range(9):
            await agent.consume(exporter, of(3, f"m{number}"))
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, of(3, "m9"))
        for number in range(3):
            await agent.consume(exporter, of(10, f"k{number}"))
        assert agent.sum() == {"held": 10, "evicted": 2, "queue_full": 1}
        await agent.consume(exporter, of(5, "s"))
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, of(5, *"abc").weighing(2))
        destination.is_up = True
        await until(lambda: "held" not in agent.sum())
    assert sorted(destination.names(10) + destination.names(5)) == ["k0", "k1", "k2", "s"]
    assert destination.names(3) == [f"m{number}" for number in range(5)]
    assert rows(tmp_path, "*") == []


async def test_what_was_not_read_yet_goes_before_what_was(tmp_path):
    """More than is read ahead: what is removed is at the end, and everything else arrives."""
    destination = Destination(is_up=False)
    queue = {"sizer": "items", "queue_size": 700, "reserve": 0.0}
    async with keeping.running(tmp_path, destination, **queue) as (agent, exporter):
        for number in range(700):
            await agent.consume(exporter, of(3, f"m{number:03}"))
        for number in range(4):
            await agent.consume(exporter, of(5, *(f"s{number}{n:03}" for n in range(150))))
        assert agent.sum() == {"held": 700, "evicted": 600}
        destination.is_up = True
        await until(lambda: agent.sum() == {"delivered": 700, "evicted": 600})
    assert destination.names(3) == [f"m{number:03}" for number in range(100)]
    assert len(destination.names(5)) == 600


async def test_what_waits_is_joined_by_weight_and_signal_in_order(tmp_path):
    destination = Destination(is_up=False)
    batch = BatchConfig(min_size=40, flush_timeout=0.01)
    async with keeping.running(tmp_path, destination, batch=batch) as (agent, exporter):
        for number in range(100):
            await agent.consume(exporter, of(5, f"s{number:03}"))
            await agent.consume(exporter, exporting.spans("span").weighing(5))
            await agent.consume(exporter, of(10, f"k{number:03}"))
        destination.is_up = True
        await until(lambda: "held" not in agent.sum() and "held" not in agent.sum(Signal.TRACES))
        assert agent.sum() == {"delivered": 200}
    assert len(destination.requests) < 40
    assert max(request.items for request in destination.requests) == 40
    assert destination.names(5) == [f"s{number:03}" for number in range(100)]
    assert destination.names(10) == [f"k{number:03}" for number in range(100)]
    assert rows(tmp_path, "*") == []


async def test_one_that_is_refused_takes_nobody_with_it_to_the_dead_letters(tmp_path):
    destination = Destination(bad="s07")
    batch = BatchConfig(min_size=20, flush_timeout=60.0)
    async with keeping.running(tmp_path, destination, batch=batch) as (agent, exporter):
        for number in range(20):
            await agent.consume(exporter, of(5, f"s{number:02}"))
        await until(lambda: agent.sum() == {"delivered": 19, "rejected": 1})
    assert destination.names() == [f"s{number:02}" for number in range(20) if number != 7]
    ((reason, body),) = rows(tmp_path, "reason, body", "dead_letters")
    assert (reason, b"s07" in body) == ("400 s07 is bad", True)
    assert rows(tmp_path, "*") == []


async def test_what_waits_to_be_joined_goes_when_its_time_is_up_and_at_the_stop(tmp_path):
    destination = Destination()
    batch = BatchConfig(min_size=100, flush_timeout=0.05)
    async with keeping.running(tmp_path, destination, batch=batch) as (agent, exporter):
        await agent.consume(exporter, of(5, "a"))
        await agent.consume(exporter, of(5, "b"))
        await until(lambda: agent.sum() == {"delivered": 2})
    batch = BatchConfig(min_size=100, flush_timeout=3600.0)
    async with keeping.running(tmp_path, destination, batch=batch) as (agent, exporter):
        await agent.consume(exporter, of(5, "c"))
    assert agent.sum() == {"delivered": 1}
    assert destination.names() == ["a", "b", "c"]


@pytest.mark.parametrize("weight", ["77", "-1", "'text'", "x'00'", "0"])
async def test_a_request_whose_weight_is_damaged_is_found_and_counted(tmp_path, weight):
    async with keeping.running(tmp_path, Destination(is_up=False)) as (agent, exporter):
        for name in "abc":
            await agent.consume(exporter, of(5, name))
    change(tmp_path, f"UPDATE items SET weight = {weight} WHERE id = 2")

    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, _):
        await until(lambda: agent.sum() == {"delivered": 2, "storage_damaged": 1})
    assert destination.names() == ["a", "c"]


@pytest.mark.parametrize(("weight", "level"), [(10, "FULL"), (9, "NORMAL"), (1, "NORMAL")])
async def test_only_what_is_critical_waits_for_the_disk(tmp_path, monkeypatch, weight, level):
    levels = []
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_trace_callback(levels.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    async with keeping.running(tmp_path, Destination(is_up=False)) as (agent, exporter):
        levels.clear()
        await agent.consume(exporter, of(weight))
        assert f"PRAGMA synchronous={level}" in levels
