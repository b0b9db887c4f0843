"""How many requests and items a database holds, told beside it: the witness when it is damaged.

It is a small file that is written with each commit and never synced, so it costs no time. What it
says is never more than what is kept: before a commit that removes, it is lowered, and after one
that adds, it is raised. So what the database holds less than that was lost, whatever became of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sqlite3
import zlib

_Key = tuple[str, str]
Counts = dict[_Key, tuple[int, int]]
"""Requests and items by queue and signal."""

_BLOCK_BYTES = 4096
_ITEMS = "iif(typeof({0}.items) = 'integer', {0}.items, 1)"
_CHANGED = """
CREATE TEMP TRIGGER {name} AFTER {event} ON main.items BEGIN
    INSERT INTO tallies VALUES ({row}.queue, {row}.signal, {sign}1, {sign}{items})
    ON CONFLICT (queue, signal) DO UPDATE SET
        requests = requests + excluded.requests, items = items + excluded.items;
END
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What the witness says, and of which version the database is."""

    version: int
    counts: Counts


def read(path: pathlib.Path) -> Told | None:
    """What the witness says; None if there is none, or if it is damaged itself."""
    try:
        crc, _, text = path.read_bytes().partition(b"\n")[0].partition(b" ")
        if int(crc, 16) != zlib.crc32(text):
            return None
        version, rows = json.loads(text)
        return Told(version, {(queue, signal): (one, two) for queue, signal, one, two in rows})
    except (OSError, ValueError):
        return None


def watch(connection: sqlite3.Connection) -> None:
    """Let the connection count from now on, in memory, what is in it."""
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(
        "CREATE TEMP TABLE tallies (queue TEXT, signal TEXT, requests INTEGER, items INTEGER, "
        "PRIMARY KEY (queue, signal)) WITHOUT ROWID"
    )
    connection.execute(
        f"INSERT INTO tallies SELECT queue, signal, count(*), sum({_ITEMS.format('items')}) "  # noqa: S608
        "FROM main.items GROUP BY queue, signal"
    )
    for name, event, row, sign in (("came", "INSERT", "NEW", "+"), ("went", "DELETE", "OLD", "-")):
        items = _ITEMS.format(row)
        connection.execute(_CHANGED.format(name=name, event=event, row=row, sign=sign, items=items))


def counted(connection: sqlite3.Connection) -> Counts:
    """What is in it, the open transaction included."""
    rows = connection.execute("SELECT * FROM temp.tallies WHERE requests > 0")
    return {(queue, signal): (requests, items) for queue, signal, requests, items in rows}


def lower(one: Counts, other: Counts) -> Counts:
    """What both hold at least."""
    return {
        key: (min(one[key][0], other[key][0]), min(one[key][1], other[key][1]))
        for key in one.keys() & other.keys()
    }


def missing(told: Counts, found: Counts) -> Counts:
    """What of the one is not in the other."""
    lost = {}
    for key, (requests, items) in told.items():
        there = found.get(key, (0, 0))
        if there[0] < requests:
            lost[key] = requests - there[0], max(items - there[1], 0)
    return lost


class Witness:
    """The file, written in place."""

    def __init__(self, path: pathlib.Path, version: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._version = version
        self._told: Counts | None = None

    def tell(self, counts: Counts) -> None:
        """Say that so much is kept; OSError if it cannot be written."""
        if counts == self._told:
            return
        rows = [[*key, *numbers] for key, numbers in counts.items()]
        text = json.dumps([self._version, rows]).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        os.pwrite(self._fd, line.ljust(_BLOCK_BYTES), 0)
        self._told = counts

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
