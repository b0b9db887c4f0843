"""The requests of one queue, as rows: in the order in which they came, each with its checksum."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from otel_oom.pipeline import weights
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.database import Database
from otel_oom.pipeline.durable.limit import Limit
from otel_oom.pipeline.durable.rows import Row

_COLUMNS = "queue, signal, weight, items, accepted_ns, crc, body"

AFTER = (
    f"SELECT id, {_COLUMNS} FROM items "  # noqa: S608 - a constant
    "WHERE queue = ? AND weight = ? AND id > ? ORDER BY id LIMIT ?"
)
LAST = (
    "SELECT id, signal, items, length(body) FROM items "
    "WHERE queue = ? AND weight = ? AND id > ? ORDER BY id DESC"
)
"""Both look at no row of another queue or weight (`items_of_queue`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One request that is kept; `is_whole`: whether it is what was written."""

    id: int
    signal: Signal
    weight: int
    items: int
    accepted_ns: int
    body: bytes
    is_whole: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """What a queue holds of one weight and signal."""

    signal: Signal
    weight: int
    requests: int
    items: int
    bytes: int


class Gone(NamedTuple):
    """One request that was removed to make room."""

    id: int
    signal: Signal
    items: int
    bytes: int


class Storage(Protocol):
    """A storage extension, as a queue sees it."""

    def database(self) -> Database:
        """Its open database, or raise `errors.StorageError`."""

    def listen(self, queue: str, added: Callable[[list[Total]], None]) -> None:
        """Call `added` with what an operator has put back into a queue."""

    def ignore(self, queue: str) -> None:
        """Nobody sends from this queue any more."""

    @property
    def limit(self) -> Limit:
        """How large its file may become."""


class Items:
    """One queue's rows; all methods raise `errors.StorageError`."""

    def __init__(self, database: Database, queue: str, limit: Limit) -> None:
        self._database = database
        self._queue = queue
        self._limit = limit

    async def totals(self) -> list[Total]:
        """What is there, by weight and signal."""
        rows = await self._database.read(self._totals)
        if any(weight not in range(weights.LEAST, weights.MOST + 1) for weight, *_ in rows):
            await self._database.write(self._make_findable)
            rows = await self._database.read(self._totals)
        return [Total(_signal(signal), weight, *numbers) for weight, signal, *numbers in rows]

    async def add(self, signal: Signal, items: int, body: bytes, weight: int) -> int:
        """Keep a request; its id, which is above all before it. A critical one is on the disk."""
        statement = f"INSERT INTO items ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        row = Row(self._queue, str(signal), weight, items, time.time_ns(), body)
        values = (*row[:-1], row.checksum, body)

        def work(connection: sqlite3.Connection) -> int:
            self._limit.check(connection, len(body), weight)
            return connection.execute(statement, values).lastrowid or 0

        return await self._database.write(work, is_critical=weight >= weights.CRITICAL)

    async def after(self, weight: int, last_id: int, limit: int, limit_bytes: int) -> list[Item]:
        """The next requests of a weight after an id, oldest first; one at least, if any."""
        values = (self._queue, weight, last_id, limit)
        return await self._database.read(
            lambda connection: _some(connection.execute(AFTER, values), limit_bytes)
        )

    async def evict(
        self, weight: int, last_id: int, is_enough: Callable[[Sequence[Gone]], bool]
    ) -> list[Gone]:
        """Remove requests of a weight after an id, newest first, until it is enough."""

        def work(connection: sqlite3.Connection) -> list[Gone]:
            gone: list[Gone] = []
            rows = connection.execute(LAST, (self._queue, weight, last_id))
            while not is_enough(gone) and (row := rows.fetchone()):
                gone.append(Gone(row[0], _signal(row[1]), _number(row[2], 1), _number(row[3], 0)))
            rows.close()
            ids = [(one.id,) for one in gone]
            connection.executemany("DELETE FROM items WHERE id = ?", ids)
            return gone

        return await self._database.write(work, frees=True)

    async def remove(self, ids: Sequence[int]) -> None:
        """Forget requests whose fate is known."""
        rows = [(one,) for one in ids]
        await self._database.write(
            lambda connection: connection.executemany("DELETE FROM items WHERE id = ?", rows),
            frees=True,
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
            ),
            frees=True,
        )

    def _totals(self, connection: sqlite3.Connection) -> list[Any]:
        statement = (
            "SELECT weight, signal, count(*), sum(iif(typeof(items) = 'integer', items, 1)), "
            "sum(iif(typeof(body) = 'blob', length(body), 0)) FROM items "
            "WHERE queue = ? GROUP BY weight, signal"
        )
        return connection.execute(statement, (self._queue,)).fetchall()

    def _make_findable(self, connection: sqlite3.Connection) -> None:
        """Requests are read by weight: one whose weight is damaged is found with the least."""
        connection.execute(
            "UPDATE items SET weight = ? WHERE queue = ? "
            "AND (typeof(weight) <> 'integer' OR weight NOT BETWEEN ? AND ?)",
            (weights.LEAST, self._queue, weights.LEAST, weights.MOST),
        )


def _some(rows: sqlite3.Cursor, limit_bytes: int) -> list[Item]:
    found: list[Item] = []
    size = 0
    while size < limit_bytes and (row := rows.fetchone()):
        found.append(_item(*row))
        size += len(found[-1].body)
    rows.close()
    return found


def _item(id_: int, *columns: Any) -> Item:
    """SQLite keeps any type in any column, and damage may change it."""
    crc = columns[-2]
    row = Row._make([*columns[:-2], columns[-1]])
    items, weight = _number(row.items, 1), _number(row.weight, weights.LEAST)
    body = row.body if isinstance(row.body, bytes) else b""
    accepted_ns = _number(row.accepted_ns, 0)
    is_whole = row.is_whole(crc) and row.signal in list(Signal)
    return Item(id_, _signal(row.signal), weight, items, accepted_ns, body, is_whole)


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _signal(name: Any) -> Signal:
    """A damaged row's signal may be none: then it counts as logs."""
    return Signal(name) if name in list(Signal) else Signal.LOGS
