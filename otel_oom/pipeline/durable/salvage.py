"""Makes a new database of what is whole in a damaged one, and tells what is not.

Each row is judged by its own checksum, so no structure has to be believed. What cannot be a row any
more is counted by the witness (`tally`). A row that had been delivered may come again, if damage
hides that its place was free: at least once, never not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from otel_oom.pipeline.durable import cells, schema, swap, tally
from otel_oom.pipeline.durable.pages import Pages
from otel_oom.pipeline.durable.rows import Row
from otel_oom.pipeline.durable.wal import PAGE_BYTES

DAMAGED = "damaged on the disk"
"""The reason of a dead letter that was not refused by a destination."""

_OF_ITEM = len(Row._fields) + 2  # the id and the checksum
_OF_LETTER = _OF_ITEM + 2  # and when and why it was refused
_OVERFLOW_BYTES = PAGE_BYTES - 4


@dataclasses.dataclass(slots=True)
class Report:
    """What became of a damaged database."""

    fault: str
    """What was found first."""

    saved: int = 0
    """Requests that are whole and in the new database."""

    damaged: tally.Counts = dataclasses.field(default_factory=dict)
    """What was there and not whole: with the dead letters now."""

    gone: tally.Counts = dataclasses.field(default_factory=dict)
    """What was kept and cannot be sent. It is all, if `is_gone_known`, else only the damaged."""

    is_gone_known: bool = False
    """Whether the witness could tell."""


class _Found(NamedTuple):
    id: int
    row: Row
    crc: Any
    refused: list[Any]  # when and why, of a dead letter; else empty
    is_placed: bool


def rebuild(path: pathlib.Path, fault: str) -> Report:
    """Put a new database in the place of the damaged one, which is kept beside it.

    Raises sqlite3.Error or OSError if there is no room for it; then nothing has changed.
    """
    report = Report(fault)
    with (
        contextlib.closing(schema.made(swap.unfinished(path))) as connection,
        Pages(path, swap.log_of(path)) as pages,
    ):
        connection.execute("BEGIN IMMEDIATE")
        damaged = _copy_whole(pages, connection)
        (report.saved,) = connection.execute("SELECT count(*) FROM items").fetchone()
        _copy_damaged(damaged, connection, report)
        connection.execute("COMMIT")
    swap.offer(path)
    swap.finish(path)
    return report


def _copy_whole(pages: Pages, connection: sqlite3.Connection) -> dict[int, _Found]:
    """Write what is whole; returns what is not, by its id."""
    damaged: dict[int, _Found] = {}
    for found in _rows(pages):
        if not found.row.is_whole(found.crc):
            if found.is_placed and not found.refused:
                damaged[found.id] = found
        elif found.refused:
            _put_letter(connection, found.id, found, found.refused)
        else:
            _put_item(connection, found)
    return damaged


def _copy_damaged(
    damaged: dict[int, _Found], connection: sqlite3.Connection, report: Report
) -> None:
    """To the dead letters, unless another image of the same row was whole."""
    for found in damaged.values():
        if connection.execute("SELECT 1 FROM items WHERE id = ?", (found.id,)).fetchone():
            continue
        key = str(found.row.queue), str(found.row.signal)
        items = found.row.items if isinstance(found.row.items, int) else 1
        before = report.damaged.get(key, (0, 0))
        report.damaged[key] = before[0] + 1, before[1] + items
        _put_letter(connection, None, found, [found.row.accepted_ns, DAMAGED])


def _rows(pages: Pages) -> Iterator[_Found]:
    def chain(first: int, size: int) -> Iterator[bytes]:
        return _chains(pages, first, size)

    for number in pages.used():
        for image in pages.images(number):
            for cell in cells.cells(number, image, {_OF_ITEM, _OF_LETTER}, chain):
                yield _found(cell)


def _found(cell: cells.Cell) -> _Found:
    _, *told, crc, body = cell.values[:_OF_ITEM]
    refused = cell.values[_OF_ITEM:]
    return _Found(cell.id, Row._make([*told, body]), crc, refused, cell.is_placed)


def _chains(pages: Pages, first: int, size: int) -> Iterator[bytes]:
    """What follows a row's own page: of the proven images, or of doubtful ones in their place."""
    if size > pages.count * PAGE_BYTES:
        return
    for choice in (0, -1):
        data, number, left = [], first, size
        while left > 0 and number > 1:
            images = list(pages.images(number))
            if not images:
                break
            image = images[choice]
            data.append(image[4 : 4 + left])
            number, left = int.from_bytes(image[:4], "big"), left - _OVERFLOW_BYTES
        yield b"".join(data).ljust(size, b"\0")


def _put_item(connection: sqlite3.Connection, found: _Found) -> None:
    """Under its id; under a new one if another request has it, which only damage does."""
    values = (*found.row[:-1], found.crc, found.row.body)
    there = connection.execute("SELECT crc FROM items WHERE id = ?", (found.id,)).fetchone()
    if there is None:
        _insert(connection, "items", found.id, *values)
    elif there[0] != found.crc:
        _insert(connection, "items", None, *values)


def _put_letter(
    connection: sqlite3.Connection, id_: int | None, found: _Found, refused: list[Any]
) -> None:
    """As its table asks for; a damaged one has its checksum, which tells that it is one."""
    kept = [_as_text(found.row.queue), _as_text(found.row.signal)]
    numbers = [one if isinstance(one, int) else 0 for one in (*found.row[2:5], found.crc)]
    body = found.row.body if isinstance(found.row.body, bytes) else b""
    when = refused[0] if isinstance(refused[0], int) else 0
    _insert(connection, "dead_letters", id_, *kept, *numbers, body, when, _as_text(refused[1]))


def _insert(connection: sqlite3.Connection, table: str, *values: Any) -> None:
    """A letter that was seen in another image of its page is there already."""
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", values)  # noqa: S608


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
