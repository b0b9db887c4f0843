"""The tables of a storage's file, and how one is opened, made, refused or found to be damaged."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import sqlite3

from otel_oom import errors
from otel_oom.pipeline.durable import upgrade, wal

VERSION = 2
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
CREATE INDEX items_of_queue ON items (queue, weight, id);
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
    "storage_damaged": "the agent saves what is whole when it is started again",
}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""SQLITE_ERROR: our own statements do not fit, so the tables are not what we made."""

_MOST_ID = 1 << 62


class Damaged(Exception):
    """The file is ours and contradicts itself; the text says how."""


def opened(path: pathlib.Path, known_version: int | None = None) -> sqlite3.Connection:
    """A connection to the file, made if it is not there.

    `known_version` is what somebody else says of it: a header that says otherwise is damaged.
    Raises `Damaged`, or `errors.StorageError` if it cannot be used as it is.
    """
    connection: sqlite3.Connection | None = None
    try:
        connection = _connected(path)
        _prepare(path, connection, known_version)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _judged(path, error) from error
        raise
    return connection


def made(path: pathlib.Path) -> sqlite3.Connection:
    """A connection to a new file with our tables, which has no log: each commit is in it."""
    connection = _connected(path)
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA synchronous=FULL")
    _make(connection)
    return connection


def failure(path: pathlib.Path, error: sqlite3.Error) -> errors.StorageError:
    """What SQLite says, with the reason's word and what helps."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    reason = _REASONS.get(code, "storage_error")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        reason = "storage_damaged"
    elif reason == "storage_error" and _is_read_only(path):
        reason = "storage_read_only"
    remedy = _REMEDIES.get(reason, "look at the disk and at the kernel's log")
    return errors.StorageError(f"{path}: {error}; {remedy}", reason)


def _judged(path: pathlib.Path, error: sqlite3.Error) -> Exception:
    """Whether it is the file's fault or the disk's."""
    code = getattr(error, "sqlite_errorcode", 0)
    is_short = code == sqlite3.SQLITE_IOERR_SHORT_READ
    is_ours = code & 0xFF == sqlite3.SQLITE_READONLY and not _is_read_only(path)
    if code & 0xFF in _DAMAGE or is_short or is_ours:
        return Damaged(str(error))
    return failure(path, error)


def _is_read_only(path: pathlib.Path) -> bool:
    """Whether the disk or the rights forbid to write.

    By trying: Linux from 6.14 on does not say of an ext4 that it gave up after an error.
    """
    if path.exists() and not os.access(path, os.W_OK):
        return True
    try:
        os.close(os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return False


def _connected(path: pathlib.Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    connection.execute(f"PRAGMA page_size={wal.PAGE_BYTES}")
    return connection


def _prepare(path: pathlib.Path, connection: sqlite3.Connection, known: int | None) -> None:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    # A damaged page that nobody knows to be free is read for rows: there must be none of old.
    connection.execute("PRAGMA secure_delete=FAST")
    connection.execute("PRAGMA wal_autocheckpoint=0")  # its errors would be nobody's
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if (application, version) == (_APPLICATION, 1):
        upgrade.from_1(connection, create_tables)
        version = VERSION
    if (application, version) == (0, 0) and known is None and not _shape(connection):
        _make(connection)
    elif (application, version) != (_APPLICATION, VERSION):
        if known == VERSION:
            raise Damaged("its header is not ours any more")
        raise _stranger(path, application, version)
    if mode != "wal":
        raise Damaged(f"its journal is {mode!r}")
    _check(connection)


def _stranger(path: pathlib.Path, application: int, version: int) -> errors.StorageError:
    if application != _APPLICATION:
        text = f"{path} is a database of something else; choose another `directory`"
    else:
        text = (
            f"{path} is of version {version}, and this agent knows {VERSION}: start the agent "
            "that wrote it, or move the file away"
        )
    return errors.StorageError(text, "storage_error")


def _check(connection: sqlite3.Connection) -> None:
    """All that can be told without the rows' checksums, which are looked at when one is sent."""
    if _shape(connection) != _our_shape():
        raise Damaged("its tables are not ours any more")
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise Damaged(" ".join(found.split()))
    for (last_id,) in connection.execute("SELECT seq FROM sqlite_sequence"):
        if not isinstance(last_id, int) or not 0 <= last_id < _MOST_ID:
            raise Damaged(f"its last id is {last_id!r}")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")


def _shape(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    statement = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    return connection.execute(statement).fetchall()


@functools.cache
def _our_shape() -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _make(connection)
        return _shape(connection)


def _text(raw: bytes) -> str:
    """Text that is damaged is a damaged row's, and no reason to read none."""
    return raw.decode(errors="replace")


def _make(connection: sqlite3.Connection) -> None:
    """All or nothing: an agent that dies here leaves an empty file."""
    connection.execute("BEGIN IMMEDIATE")
    create_tables(connection)
    connection.execute(f"PRAGMA application_id={_APPLICATION}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")


def create_tables(connection: sqlite3.Connection) -> None:
    """Make them, in the transaction that is open."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
