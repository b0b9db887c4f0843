"""A queue on a disk: what was accepted comes out, in this life or the next, and is counted once."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sqlite3

import pytest
from doubles import exporting, keeping
from doubles.keeping import Destination, until

from otel_oom import errors
from otel_oom.pipeline.data import Batch


def rows(folder: pathlib.Path, table: str, columns: str = "*") -> list[tuple]:
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def change(folder: pathlib.Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute(statement)
        connection.commit()


def bodies(*names: str) -> list[bytes]:
    return [batch(name).encoded() for name in names]


def batch(name: str) -> Batch:
    return exporting.logs(name)


async def test_what_is_accepted_is_delivered_in_order_and_forgotten(tmp_path):
    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        for name in "abcdef":
            await agent.consume(exporter, batch(name))
        await until(lambda: agent.sum() == {"delivered": 6})
    assert destination.bodies == bodies(*"abcdef")
    assert rows(tmp_path, "items") == []


async def test_what_is_not_delivered_is_the_next_lifes_first(tmp_path):
    async with keeping.running(tmp_path, Destination(is_up=False)) as (agent, exporter):
        for name in "abc":
            await agent.consume(exporter, batch(name))
    assert agent.sum() == {"held": 3}
    assert len(rows(tmp_path, "items")) == 3

    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        assert agent.ledger.balance(batch("a").signal).recovered == 3
        await agent.consume(exporter, batch("d"))
        await until(lambda: agent.sum() == {"delivered": 4})
    assert destination.bodies == bodies(*"abcd")


async def test_a_destination_that_is_away_longer_than_max_elapsed_time_loses_nothing(tmp_path):
    destination = Destination(is_up=False)
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        await agent.consume(exporter, batch("a"))
        await until(lambda: destination.tries > 10)
        assert agent.sum() == {"held": 1}
        destination.is_up = True
        await until(lambda: agent.sum() == {"delivered": 1})


async def test_what_is_refused_for_good_is_a_dead_letter_and_stops_nobody(tmp_path):
    destination = Destination()
    destination.refused = errors.Permanent("400 bad request")
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        await agent.consume(exporter, batch("bad"))
        await until(lambda: agent.sum() == {"rejected": 1})
        destination.refused = None
        await agent.consume(exporter, batch("good"))
        await until(lambda: agent.sum() == {"rejected": 1, "delivered": 1})
    ((reason, body),) = rows(tmp_path, "dead_letters", "reason, body")
    assert (reason, body) == ("400 bad request", bodies("bad")[0])
    assert rows(tmp_path, "items") == []


async def test_a_full_queue_refuses_and_has_room_again(tmp_path):
    destination = Destination(is_up=False)
    async with keeping.running(tmp_path, destination, queue_size=2) as (agent, exporter):
        await agent.consume(exporter, batch("a"))
        await agent.consume(exporter, batch("b"))
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, batch("c"))
        destination.is_up = True
        await until(lambda: agent.sum() == {"delivered": 2, "queue_full": 1})
        await agent.consume(exporter, batch("d"))
        await until(lambda: agent.sum()["delivered"] == 3)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE items SET body = body || x'00' WHERE id = 2",
        "UPDATE items SET items = 7 WHERE id = 2",
        "UPDATE items SET signal = 'profiles' WHERE id = 2",
        "UPDATE items SET body = 'text' WHERE id = 2",
        "UPDATE items SET body = 12345 WHERE id = 2",
        "UPDATE items SET items = '3 apples' WHERE id = 2",
        "UPDATE items SET crc = 'text' WHERE id = 2",
    ],
)
async def test_a_damaged_request_is_left_out_and_counted_and_the_others_are_sent(tmp_path, damage):
    async with keeping.running(tmp_path, Destination(is_up=False)) as (agent, exporter):
        for name in "abc":
            await agent.consume(exporter, batch(name))
    change(tmp_path, damage)

    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        await until(lambda: len(destination.bodies) == 2 and "held" not in agent.sum())
    assert destination.bodies == bodies("a", "c")
    assert agent.sum()["storage_damaged"] >= 1
    assert [row[0] for row in rows(tmp_path, "dead_letters", "reason")] == ["damaged on the disk"]


async def test_a_caller_that_is_cancelled_leaves_a_copy_and_the_sum_closes(tmp_path):
    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        handing = asyncio.ensure_future(agent.consume(exporter, batch("a")))
        await asyncio.sleep(0)  # it has begun
        handing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handing
        await until(lambda: agent.sum() == {"delivered": 1, "shutdown": 1})
    assert destination.bodies == bodies("a")


async def test_each_exporter_has_its_own(tmp_path):
    destination = Destination(is_up=False)
    async with keeping.running(tmp_path, destination, "otlp_http/other") as (agent, exporter):
        await agent.consume(exporter, batch("a"))
    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        await agent.consume(exporter, batch("b"))
        await until(lambda: agent.sum() == {"delivered": 1})
    assert destination.bodies == bodies("b")


async def test_a_storage_that_does_not_run_is_named_with_those_that_do(tmp_path):
    with pytest.raises(errors.ComponentError, match=r"`otherwise`.*\(file_storage\).*extensions"):
        async with keeping.running(tmp_path, Destination(), storage="otherwise"):
            pass
