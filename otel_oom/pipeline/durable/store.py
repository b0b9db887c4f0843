"""The file of a storage, as its one thread uses it: transactions, checkpoints, and its repair.

A failed write or sync leaves nobody knowing what is on the disk: Linux marks the pages clean all
the same, and the next sync succeeds without them. So after one, the file is not written again: its
content goes into a new one, which takes its place, and until that succeeds nothing is accepted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from otel_oom import errors
from otel_oom.pipeline.durable import recovery, salvage, schema, swap, tally
from otel_oom.pipeline.durable.reserve import Reserve

_log = logging.getLogger(__name__)

Work = Callable[[sqlite3.Connection], Any]
"""What is done with the connection; it neither begins a transaction nor ends one."""

_CHECKPOINT_COMMITS = 250
_CHECKPOINT_BYTES = 4 << 20
"""After so many commits, or when the log has become so much larger, it goes into the file."""

_AGAIN_S = 1.0
"""Between two tries to repair the file; until then writes are refused with the last one's error."""

_ROOM = "make room there"

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Store:
    """An open file. One thread calls it."""

    def __init__(
        self,
        path: pathlib.Path,
        on_report: Callable[[salvage.Report], None],
        reserve_bytes: int,
    ) -> None:
        self._path = path
        self._on_report = on_report
        self._log_path = swap.log_of(path)
        self._is_suspect = False
        self._failed: tuple[float, errors.StorageError] | None = None
        self._connection: sqlite3.Connection | None = None
        self._witness: tally.Witness | None = None
        self._counts: tally.Counts = {}
        self._commits = 0
        self._log_bytes = 0
        self._open()
        self._reserve = self._opened_reserve(reserve_bytes)

    def read(self, work: Work) -> Any:
        """Do it outside of a transaction; `errors.StorageError` if the file cannot be read.

        What cannot be written any more can be read all the same.
        """
        try:
            return work(self._connection or self._ready())
        except sqlite3.Error as error:
            raise self._told(error) from error

    def write(self, works: Sequence[Work], *, is_synced: bool, may_use_reserve: bool) -> list[Any]:
        """Do all in one transaction, or none: then `errors.StorageError`, or what one raised."""
        self._ready()
        if not may_use_reserve and not self._has_reserve():
            raise errors.StorageError(
                f"{self._path}: its disk is full, what is left is for the critical; {_ROOM}",
                "storage_full",
            )
        while True:
            try:
                return self._write(works, is_synced=is_synced)
            except errors.StorageError as error:
                if error.reason != "storage_full" or not may_use_reserve or not self._give():
                    raise

    def _write(self, works: Sequence[Work], *, is_synced: bool) -> list[Any]:
        connection = self._ready()
        try:
            connection.execute(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")
            results = self._transaction(connection, works)
        except sqlite3.Error as error:
            raise self._told(error) from error
        except OSError as error:
            text = f"{self._path}: {error.strerror}; look at the disk and at the kernel's log"
            raise errors.StorageError(text, "storage_error") from error
        self._commits += 1
        self._checkpoint_if_due(connection)
        return results

    def close(self) -> None:
        """Put all into the file, and let go of it."""
        with contextlib.suppress(errors.StorageError):
            self._ready()
        self._let_go()

    def _opened_reserve(self, size: int) -> Reserve:
        try:
            return Reserve(self._path.with_name(self._path.name + ".reserve"), size)
        except OSError as error:
            raise _failure(self._path, error) from error

    def _has_reserve(self) -> bool:
        """Whether the reserve is whole, or could be filled now."""
        try:
            return self._reserve.fill()
        except OSError as error:
            raise _failure(self._path, error) from error

    def _give(self) -> bool:
        """Give up a piece of the reserve, and say so if it was the first one."""
        if self._reserve.is_whole:
            _log.error("%s: its disk is full, only the critical is kept now; %s", self._path, _ROOM)
        return self._reserve.give()

    def _open(self) -> None:
        opened = recovery.opened(self._path)
        self._connection, self._witness = opened.connection, opened.witness
        self._counts = tally.counted(opened.connection)
        self._is_suspect, self._commits, self._log_bytes = False, 0, 0
        if opened.report is not None:
            self._on_report(opened.report)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        witness, self._witness = self._witness, None
        if witness is not None:
            witness.close()

    def _transaction(self, connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            results = [work(connection) for work in works]
            counts = tally.counted(connection)
            self._tell(tally.lower(self._counts, counts))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            with contextlib.suppress(OSError):
                self._tell(self._counts)
            raise
        self._counts = counts
        with contextlib.suppress(OSError):  # it says less than there is, which is no lie
            self._tell(counts)
        return results

    def _tell(self, counts: tally.Counts) -> None:
        if self._witness is not None:
            self._witness.tell(counts)

    def _checkpoint_if_due(self, connection: sqlite3.Connection) -> None:
        """What was committed is safe whatever comes of this."""
        size = self._log_path.stat().st_size if self._log_path.exists() else 0
        if self._commits < _CHECKPOINT_COMMITS and size < self._log_bytes + _CHECKPOINT_BYTES:
            return
        self._commits, self._log_bytes = 0, size
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            _log.warning("%s", self._told(error))

    def _ready(self) -> sqlite3.Connection:
        """The connection, to a file that can be trusted."""
        if self._is_suspect or self._connection is None:
            self._repair()
        assert self._connection is not None
        return self._connection

    def _repair(self) -> None:
        now_s = time.monotonic()
        if self._failed is not None and now_s < self._failed[0]:
            raise self._failed[1]
        try:
            self._renew()
        except (sqlite3.Error, OSError, errors.StorageError) as error:
            failure = _failure(self._path, error)
            self._failed = now_s + _AGAIN_S, failure
            raise failure from error
        self._failed = None
        _log.warning(
            "%s was written anew after an error of the disk, and is used again", self._path
        )

    def _renew(self) -> None:
        """Write what the connection sees to a new file, synced, and use that."""
        if self._connection is not None:
            new = swap.unfinished(self._path)
            self._connection.execute("VACUUM INTO ?", (str(new),))
            _sync(new)
            swap.offer(self._path)
            self._let_go()
            swap.discard(self._path)
        self._open()

    def _told(self, error: sqlite3.Error) -> errors.StorageError:
        """The error for who waits; what it means for the file is noted."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_IOERR:
            self._is_suspect = True
        elif code in _DAMAGE:
            self._let_go()  # to be opened anew, of what is whole
        return schema.failure(self._path, error)


def _failure(path: pathlib.Path, error: Exception) -> errors.StorageError:
    if isinstance(error, errors.StorageError):
        return error
    if isinstance(error, sqlite3.Error):
        return schema.failure(path, error)
    text = f"{path}: {error}; look at the disk and at the kernel's log"
    return errors.StorageError(text, "storage_error")


def _sync(path: pathlib.Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
