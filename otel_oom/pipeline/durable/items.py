"""The requests of one queue, as rows: in the order in which they came, each with its checksum."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Sequence
from typing import Protocol

from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.database import Database

_FIELDS = "id, signal, CAST(items AS INTEGER), crc, CAST(body AS BLOB), typeof(body) = 'blob'"
"""SQLite keeps any type in any column, and damage may change it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One request that is kept; `is_whole`: whether it is what was written."""

    id: int
    signal: Signal
    items: int
    body: bytes
    is_whole: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """What a queue holds of one signal."""

    signal: Signal
    requests: int
    items: int
    bytes: int


class Storage(Protocol):
    """A storage extension, as a queue sees it."""

    def database(self) -> Database:
        """Its open database, or raise `errors.StorageError`."""


class Items:
    """One queue's rows; all methods raise `errors.StorageError`."""

    def __init__(self, database: Database, queue: str) -> None:
        self._database = database
        self._queue = queue

    async def totals(self) -> list[Total]:
        """What is there, by signal."""
        statement = (
            "SELECT signal, count(*), sum(CAST(items AS INTEGER)), "
            "sum(length(CAST(body AS BLOB))) FROM items "
            "WHERE queue = ? GROUP BY signal"
        )
        rows = await self._database.read(
            lambda connection: connection.execute(statement, (self._queue,)).fetchall()
        )
        return [Total(_signal(signal), *numbers) for signal, *numbers in rows]

    async def add(self, signal: Signal, items: int, body: bytes, *, is_critical: bool) -> int:
        """Keep a request; its id, which is above all before it."""
        statement = (
            "INSERT INTO items (queue, signal, items, accepted_ns, crc, body) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        crc = _crc(signal, items, body)
        row = (self._queue, str(signal), items, time.time_ns(), crc, body)
        return await self._database.write(
            lambda connection: connection.execute(statement, row).lastrowid or 0,
            is_critical=is_critical,
        )

    async def after(self, last_id: int, limit: int) -> list[Item]:
        """The next requests after an id, oldest first."""
        statement = (
            f"SELECT {_FIELDS} FROM items WHERE queue = ? AND id > ? "  # noqa: S608 - a constant
            "ORDER BY id LIMIT ?"
        )
        values = (self._queue, last_id, limit)
        rows = await self._database.read(
            lambda connection: connection.execute(statement, values).fetchall()
        )
        return [_item(row) for row in rows]

    async def remove(self, ids: Sequence[int]) -> None:
        """Forget requests whose fate is known."""
        rows = [(one,) for one in ids]
        await self._database.write(
            lambda connection: connection.executemany("DELETE FROM items WHERE id = ?", rows)
        )

    async def bury(self, id_: int, reason: str) -> None:
        """Put a request that was refused for good with the dead letters."""
        values = (time.time_ns(), reason, id_)
        await self._database.write(
            lambda connection: (
                connection.execute(
                    "INSERT INTO dead_letters SELECT id, queue, signal, items, accepted_ns, ?, ?, "
                    "body FROM items WHERE id = ?",
                    values,
                ),
                connection.execute("DELETE FROM items WHERE id = ?", (id_,)),
            )
        )


def _crc(signal: str, items: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{signal} {items}".encode()))


def _item(row: tuple[int, str, int, int, bytes, int]) -> Item:
    id_, signal, items, crc, body, is_blob = row
    is_whole = bool(is_blob) and crc == _crc(signal, items, body)
    return Item(id_, _signal(signal), items, body, is_whole)


def _signal(name: str) -> Signal:
    """A damaged row's signal may be none: then it counts as logs."""
    return Signal(name) if name in list(Signal) else Signal.LOGS
