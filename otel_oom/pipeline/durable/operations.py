"""What an operator asks of the queues in a storage: what is there, and to move or remove some.

Functions over a connection, for `Database.read` and `Database.write`: a change is one transaction,
so whoever is killed in the middle of it has changed nothing.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.items import Total
from otel_oom.pipeline.durable.rows import Row

Table = Literal["items", "dead_letters"]

PAGE_BYTES = 1 << 20
"""A page ends with the request that exceeds it."""

_COLUMNS = ", ".join(Row._fields)
_Key = tuple[str, Signal, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Depth:
    """What waits in a queue of one signal and weight; `oldest_ns` is when it was accepted."""

    queue: str
    signal: str
    weight: int
    requests: int
    items: int
    bytes: int
    oldest_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetters:
    """What a destination refused for one reason; `newest_ns` is when it last did, Unix time."""

    queue: str
    signal: str
    reason: str
    requests: int
    items: int
    bytes: int
    newest_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """All queues of a storage."""

    waiting: list[Depth]
    dead: list[DeadLetters]


class Kept(NamedTuple):
    """One request as it is kept; `reason` is empty for one that waits."""

    id: int
    queue: str
    signal: str
    weight: int
    items: int
    body: bytes
    is_whole: bool
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Returned:
    """What went from the dead letters back to its queue, and the requests that were too damaged."""

    totals: dict[str, list[Total]]
    damaged: int


def overview(connection: sqlite3.Connection) -> Overview:
    """What waits and what was refused, by queue."""
    sizes = "count(*), sum(CAST(items AS INTEGER)), sum(length(CAST(body AS BLOB)))"
    waiting = connection.execute(
        f"SELECT queue, signal, weight, {sizes}, min(CAST(accepted_ns AS INTEGER)) FROM items "  # noqa: S608
        "GROUP BY 1, 2, 3 ORDER BY 1, 3 DESC, 2"
    )
    dead = connection.execute(
        f"SELECT queue, signal, reason, {sizes}, max(CAST(refused_ns AS INTEGER)) "  # noqa: S608
        "FROM dead_letters GROUP BY 1, 2, 3 ORDER BY 1, 3, 2"
    )
    return Overview([Depth(*row) for row in waiting], [DeadLetters(*row) for row in dead])


def page(connection: sqlite3.Connection, table: Table, queue: str | None, after: int) -> list[Kept]:
    """The next requests after an id, oldest first, of one queue or of all."""
    reason = "reason" if table == "dead_letters" else "''"
    rows = connection.execute(
        f"SELECT id, {reason}, crc, {_COLUMNS} FROM {table} "  # noqa: S608 - constants
        "WHERE id > ? AND (? IS NULL OR queue = ?) ORDER BY id",
        (after, queue, queue),
    )
    return list(_until_full(rows))


def remove(connection: sqlite3.Connection, table: Table, ids: Sequence[int]) -> None:
    """Forget requests, which are somewhere else now."""
    connection.executemany(
        f"DELETE FROM {table} WHERE id = ?",  # noqa: S608 - one of two names
        [(one,) for one in ids],
    )


def retry(connection: sqlite3.Connection, queue: str | None) -> Returned:
    """Put dead letters back at the end of their queue; what is damaged stays where it is."""
    moved, damaged, after = dict[_Key, list[int]](), 0, 0
    while found := page(connection, "dead_letters", queue, after):
        after = found[-1].id
        for one in found:
            if not one.is_whole:
                damaged += 1
                continue
            _move(connection, one.id)
            total = moved.setdefault((one.queue, Signal(one.signal), one.weight), [0, 0, 0])
            for index, number in enumerate((1, one.items, len(one.body))):
                total[index] += number
    return Returned(_by_queue(moved), damaged)


def _move(connection: sqlite3.Connection, id_: int) -> None:
    """With its checksum, and a new id."""
    connection.execute(
        f"INSERT INTO items ({_COLUMNS}, crc) SELECT {_COLUMNS}, crc FROM dead_letters "  # noqa: S608
        "WHERE id = ?",
        (id_,),
    )
    connection.execute("DELETE FROM dead_letters WHERE id = ?", (id_,))


def _by_queue(moved: dict[_Key, list[int]]) -> dict[str, list[Total]]:
    totals: dict[str, list[Total]] = {}
    for (queue, signal, weight), numbers in moved.items():
        totals.setdefault(queue, []).append(Total(signal, weight, *numbers))
    return totals


def _until_full(rows: Iterable[tuple[Any, ...]]) -> Iterator[Kept]:
    size = 0
    for id_, reason, crc, *columns in rows:
        row = Row(*columns)
        is_whole = row.is_whole(crc) and row.signal in list(Signal)
        body = row.body if is_whole else b""
        yield Kept(id_, row.queue, row.signal, row.weight, row.items, body, is_whole, reason)
        size += len(body)
        if size > PAGE_BYTES:
            return
