"""How large a storage's file may become, and who gives way when it is as large as that.

The limit is of the pages in use, as SQLite counts them. Pages that are freed are used again, so the
file never becomes larger than the limit, and not smaller either.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Protocol

from otel_oom import errors
from otel_oom.pipeline import weights

RESERVE = 0.1
"""Part of the file that only the critical weight may use."""

_MORE_PAGES = 2
"""Pages that a row may take beside its body's."""


class Queue(Protocol):
    """One of the queues that share a file."""

    def lowest(self) -> int | None:
        """The lowest weight of which it has something that can go; None if nothing can."""

    async def give_way(self, weight: int, size_bytes: int) -> bool:
        """Remove as much of a weight, what came last first; whether that was anything."""


@dataclasses.dataclass(slots=True)
class Limit:
    """Of one file, for all its queues."""

    max_bytes: int
    queues: list[Queue] = dataclasses.field(default_factory=list)

    async def make_room(self, weight: int, size_bytes: int) -> bool:
        """Let the queue that has the lowest weight below this one remove some of it."""
        lowest = [(one.lowest(), one) for one in self.queues]
        lower = [(of, queue) for of, queue in lowest if of is not None and of < weight]
        if not lower:
            return False
        of, queue = min(lower, key=lambda pair: pair[0])
        return await queue.give_way(of, size_bytes)

    def check(self, connection: sqlite3.Connection, size_bytes: int, weight: int) -> None:
        """Raise `errors.StorageError` if a body finds no room; in the transaction that adds it.

        What was refused for good, and is counted, goes first.
        """
        page_bytes = _number(connection, "page_size")
        wanted = size_bytes + _MORE_PAGES * page_bytes
        critical = weight >= weights.CRITICAL
        most = self.max_bytes if critical else int(self.max_bytes * (1 - RESERVE))
        if wanted > most:
            text = f"a request of {size_bytes} bytes can never fit; raise the storage's `max_size`"
            raise errors.StorageError(text, "too_large")
        while _used(connection) * page_bytes + wanted > most:
            if not _remove_dead_letter(connection):
                text = f"the storage is full ({self.max_bytes} bytes); raise its `max_size`"
                raise errors.StorageError(text, "queue_full")


def _used(connection: sqlite3.Connection) -> int:
    return _number(connection, "page_count") - _number(connection, "freelist_count")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number


def _remove_dead_letter(connection: sqlite3.Connection) -> bool:
    """The oldest."""
    statement = "DELETE FROM dead_letters WHERE id = (SELECT min(id) FROM dead_letters)"
    return connection.execute(statement).rowcount > 0
