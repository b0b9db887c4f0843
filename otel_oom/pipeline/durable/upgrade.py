"""A file of version 1, which knew no weights, becomes one of version 2: all of it, or nothing.

How urgent its requests were is not known. Metrics get their weight; everything else is taken for
critical, because version 1 had promised of all of it what version 2 promises of that.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from typing import Any

from otel_oom.pipeline import weights
from otel_oom.pipeline.durable.rows import Row

_ASIDE = (
    "DROP INDEX items_of_queue",
    "ALTER TABLE items RENAME TO items_1",
    "ALTER TABLE dead_letters RENAME TO dead_letters_1",
)
_ITEMS = "SELECT id, queue, signal, items, accepted_ns, body, crc FROM items_1"
_LETTERS = (
    "SELECT id, queue, signal, items, accepted_ns, body, refused_ns, reason FROM dead_letters_1"
)
_DROP = ("DROP TABLE items_1", "DROP TABLE dead_letters_1", "PRAGMA user_version=2")


def from_1(connection: sqlite3.Connection, create: Callable[[sqlite3.Connection], None]) -> None:
    """Do it in one transaction; `create` makes the tables of version 2."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _run(connection, _ASIDE)
        create(connection)
        for id_, *columns, crc in connection.execute(_ITEMS):
            row = _row(*columns)
            checksum = row.checksum if _was_whole(row, crc) else _other(row)
            connection.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (id_, *row[:-1], checksum, row.body),
            )
        for id_, *columns, refused_ns, reason in connection.execute(_LETTERS):
            row = _row(*columns)
            connection.execute(
                "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (id_, *row[:-1], _checksum(row), row.body, refused_ns, reason),
            )
        _run(connection, _DROP)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.execute(statement)


def _row(queue: Any, signal: Any, items: Any, accepted_ns: Any, body: Any) -> Row:
    weight = weights.METRICS if signal == "metrics" else weights.CRITICAL
    return Row(queue, signal, weight, items, accepted_ns, body)


def _was_whole(row: Row, crc: Any) -> bool:
    """By the checksum of version 1, which was of these three columns."""
    if not isinstance(row.body, bytes):
        return False
    own: bool = zlib.crc32(row.body, zlib.crc32(f"{row.signal} {row.items}".encode())) == crc
    return own


def _checksum(row: Row) -> int:
    """A dead letter of version 1 has none: it is believed."""
    return row.checksum if isinstance(row.body, bytes) else 0


def _other(row: Row) -> int:
    """One that the row does not have: what was damaged stays so, and is counted when it is read."""
    return _checksum(row) ^ 1
