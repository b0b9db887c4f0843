"""The tables of a storage's file, and how one is opened, made or refused."""

from __future__ import annotations

import pathlib
import sqlite3

from otel_oom import errors

VERSION = 1
_APPLICATION = 0x6F6F6D71  # "oomq": what `file` and we know the database by
_TABLES = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, so it is the order of coming
    queue TEXT NOT NULL,
    signal TEXT NOT NULL,
    weight INTEGER NOT NULL, -- how urgent it is, 1 to 10
    items INTEGER NOT NULL,
    accepted_ns INTEGER NOT NULL, -- Unix time
    crc INTEGER NOT NULL, -- of all columns but the id
    body BLOB NOT NULL
);
CREATE INDEX items_of_queue ON items (queue, id);
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    signal TEXT NOT NULL,
    weight INTEGER NOT NULL,
    items INTEGER NOT NULL,
    accepted_ns INTEGER NOT NULL,
    crc INTEGER NOT NULL, -- the request's own, so that a damaged one is never sent again
    body BLOB NOT NULL,
    refused_ns INTEGER NOT NULL,
    reason TEXT NOT NULL
);
"""
_REASONS = {sqlite3.SQLITE_FULL: "storage_full", sqlite3.SQLITE_READONLY: "storage_read_only"}
_REMEDIES = {
    "storage_full": "make room on its disk",
    "storage_read_only": "mount its disk writable, and let the agent's user write there",
    "storage_damaged": "move the file away: its readable items can be had with `sqlite3 .recover`",
}


def opened(path: pathlib.Path) -> sqlite3.Connection:
    """A connection to the file, made if it is not there; else `errors.StorageError`."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.text_factory = _text
        try:
            _prepare(path, connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise failure(path, error) from error
    return connection


def failure(path: pathlib.Path, error: sqlite3.Error) -> errors.StorageError:
    """What SQLite says, with the reason's word and what helps."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    reason = _REASONS.get(code, "storage_error")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        reason = "storage_damaged"
    remedy = _REMEDIES.get(reason, "look at the disk and at the kernel's log")
    return errors.StorageError(f"{path}: {error}; {remedy}", reason)


def _prepare(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if (application, version) == (0, 0) and not _has_tables(connection):
        _make(connection)
    elif application != _APPLICATION:
        raise errors.StorageError(
            f"{path} is a database of something else; choose another `directory`", "storage_error"
        )
    elif version != VERSION:
        raise errors.StorageError(
            f"{path} is of version {version}, and this agent knows {VERSION}: start the agent "
            "that wrote it, or move the file away",
            "storage_error",
        )


def _text(raw: bytes) -> str:
    """Text that is damaged is a damaged row's, and no reason to read none."""
    return raw.decode(errors="replace")


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _make(connection: sqlite3.Connection) -> None:
    """All or nothing: an agent that dies here leaves an empty file."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={_APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
