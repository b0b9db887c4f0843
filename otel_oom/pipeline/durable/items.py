"""The requests of one queue, as rows: in the order in which they came, each with its checksum."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.database import Database
from otel_oom.pipeline.durable.rows import Row

_COLUMNS = "queue, signal, weight, items, accepted_ns, crc, body"


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One request that is kept; `is_whole`: whether it is what was written."""

    id: int
    signal: Signal
    weight: int
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

    def listen(self, queue: str, added: Callable[[list[Total]], None]) -> None:
        """Call `added` with what an operator has put back into a queue."""


class Items:
    """One queue's rows; all methods raise `errors.StorageError`."""

    def __init__(self, database: Database, queue: str) -> None:
        self._database = database
        self._queue = queue

    async def totals(self) -> list[Total]:
        """What is there, by signal."""
        statement = (
            "SELECT signal, count(*), sum(iif(typeof(items) = 'integer', items, 1)), "
            "sum(iif(typeof(body) = 'blob', length(body), 0)) FROM items "
            "WHERE queue = ? GROUP BY signal"
        )
        rows = await self._database.read(
            lambda connection: connection.execute(statement, (self._queue,)).fetchall()
        )
        return [Total(_signal(signal), *numbers) for signal, *numbers in rows]

    async def add(
        self, signal: Signal, items: int, body: bytes, *, weight: int = 5, is_critical: bool
    ) -> int:
        """Keep a request; its id, which is above all before it."""
        statement = f"INSERT INTO items ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        row = Row(self._queue, str(signal), weight, items, time.time_ns(), body)
        values = (*row[:-1], row.checksum, body)
        return await self._database.write(
            lambda connection: connection.execute(statement, values).lastrowid or 0,
            is_critical=is_critical,
        )

    async def after(self, last_id: int, limit: int) -> list[Item]:
        """The next requests after an id, oldest first."""
        statement = (
            f"SELECT id, {_COLUMNS} FROM items WHERE queue = ? AND id > ? "  # noqa: S608
            "ORDER BY id LIMIT ?"
        )
        values = (self._queue, last_id, limit)
        rows = await self._database.read(
            lambda connection: connection.execute(statement, values).fetchall()
        )
        return [_item(*row) for row in rows]

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
                    f"INSERT INTO dead_letters SELECT NULL, {_COLUMNS}, ?, ? FROM items "  # noqa: S608
                    "WHERE id = ?",
                    values,
                ),
                connection.execute("DELETE FROM items WHERE id = ?", (id_,)),
            )
        )


def _item(id_: int, *columns: Any) -> Item:
    """SQLite keeps any type in any column, and damage may change it."""
    *told, crc, body = columns
    row = Row._make([*told, body])
    items = row.items if isinstance(row.items, int) else 1
    body = body if isinstance(body, bytes) else b""
    weight = row.weight if isinstance(row.weight, int) else 1
    is_whole = row.is_whole(crc) and row.signal in list(Signal)
    return Item(id_, _signal(row.signal), weight, items, body, is_whole)


def _signal(name: Any) -> Signal:
    """A damaged row's signal may be none: then it counts as logs."""
    return Signal(name) if name in list(Signal) else Signal.LOGS
