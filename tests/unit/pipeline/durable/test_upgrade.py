"""A file that an agent of version 1 left is taken over, all or nothing; of an unknown one, nothing."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import zlib

import pytest
from doubles import exporting, keeping
from doubles.keeping import Destination, until

from otel_oom import errors
from otel_oom.pipeline.durable import schema, upgrade

VERSION_1 = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, so it is the order of coming
    queue TEXT NOT NULL,
    signal TEXT NOT NULL,
    items INTEGER NOT NULL,
    accepted_ns INTEGER NOT NULL, -- Unix time
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX items_of_queue ON items (queue, id);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    signal TEXT NOT NULL,
    items INTEGER NOT NULL,
    accepted_ns INTEGER NOT NULL,
    refused_ns INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
);
PRAGMA application_id=0x6F6F6D71;
PRAGMA user_version=1;
"""
BATCHES = [
    exporting.logs("a"),
    exporting.logs("b", "c"),
    exporting.points(1, 2),
    exporting.logs("d"),
]


def version_1(folder: pathlib.Path) -> None:
    """What the agent of version 1 wrote, by its statements."""
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        for number, batch in enumerate(BATCHES):
            signal, items, body = str(batch.signal), batch.items, batch.encoded()
            crc = zlib.crc32(body, zlib.crc32(f"{signal} {items}".encode()))
            connection.execute(
                "INSERT INTO items (queue, signal, items, accepted_ns, crc, body) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                ("otlp_http/test", signal, items, 1_700_000_000_000_000_000 + number, crc, body),
            )
        connection.execute(
            "INSERT INTO dead_letters SELECT id, queue, signal, items, accepted_ns, 7, 'no', body "
            "FROM items WHERE id = 4"
        )
        connection.execute("DELETE FROM items WHERE id = 4")
        connection.commit()


def asked(folder: pathlib.Path, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
        return found


async def test_what_version_1_left_is_sent_and_its_dead_letters_stay(tmp_path):
    version_1(tmp_path)
    async with keeping.running(tmp_path, Destination(is_up=False)) as (agent, _):
        assert agent.sum() == {"held": 3}
    assert asked(tmp_path, "SELECT id, weight, accepted_ns FROM items ORDER BY id") == [
        (1, 10, 1_700_000_000_000_000_000),
        (2, 10, 1_700_000_000_000_000_001),
        (3, 3, 1_700_000_000_000_000_002),
    ]
    assert asked(tmp_path, "SELECT weight, refused_ns, reason FROM dead_letters") == [(10, 7, "no")]
    assert asked(tmp_path, "PRAGMA user_version") == [(2,)]

    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("new"))
        await until(lambda: len(destination.bodies) == 4)
    assert {batch.encoded() for batch in BATCHES[:3]} < set(destination.bodies)
    assert asked(tmp_path, "SELECT seq FROM sqlite_sequence WHERE name = 'items'") == [(4,)]


async def test_a_request_that_was_damaged_in_version_1_is_still_found_to_be(tmp_path):
    version_1(tmp_path)
    asked(tmp_path, "UPDATE items SET body = x'00' WHERE id = 2")
    destination = Destination()
    async with keeping.running(tmp_path, destination) as (agent, _):
        await until(lambda: agent.sum() == {"delivered": 1, "storage_damaged": 2})
    assert BATCHES[1].encoded() not in destination.bodies


class Breaking:
    """A connection that fails at one statement."""

    def __init__(self, connection: sqlite3.Connection, after: int) -> None:
        self._connection = connection
        self._left = after

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if statement != "ROLLBACK":
            self._left -= 1
            if self._left == 0:
                raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, *values)


def test_what_breaks_off_leaves_version_1_as_it_was(tmp_path):
    """An error at each statement of the upgrade in turn, until none is left to fail at."""
    version_1(tmp_path)
    before = dump(tmp_path)
    for at in range(1, 100):
        connection = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
        with contextlib.closing(connection):
            try:
                upgrade.from_1(Breaking(connection, at), schema.create_tables)
            except sqlite3.OperationalError:
                pass
            else:
                break
        assert dump(tmp_path) == before
    assert at > 15
    assert asked(tmp_path, "PRAGMA user_version") == [(2,)]


def dump(folder: pathlib.Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return [*connection.iterdump(), str(version)]


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_a_version_that_nobody_knows_is_refused_and_left_alone(tmp_path, version):
    version_1(tmp_path)
    asked(tmp_path, f"PRAGMA user_version={version}")
    before = dump(tmp_path)
    with pytest.raises(errors.ComponentError, match=f"is of version {version}, and this agent"):
        async with keeping.running(tmp_path, Destination()):
            pass
    assert dump(tmp_path) == before
