"""One SQLite connection, on one thread, that commits in groups.

SQLite in WAL survives a crash of the process with any setting, and a loss of power with
`synchronous=FULL` (sqlite.org, pragma synchronous); releases up to 3.51.2 may damage a file that
two connections write. So there is one connection, and what waits while it commits goes into one
next transaction: a commit costs the same for one row and for a hundred.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import pathlib
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from otel_oom import errors
from otel_oom.pipeline.durable import schema

_T = TypeVar("_T")

Work = Callable[[sqlite3.Connection], _T]
"""What is done with the connection; it neither begins a transaction nor ends one."""


@dataclasses.dataclass(slots=True)
class _Job:
    """Work that waits for the next transaction."""

    work: Work[Any]
    done: asyncio.Future[Any]
    is_critical: bool


class Database:
    """The file of one storage. Every method is called from the event loop's thread."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "file_storage")
        self._waiting: collections.deque[_Job] = collections.deque()
        self._is_called = False

    async def open(self) -> None:
        """Open or make the file; `errors.StorageError` says why it cannot be used."""
        self._connection = await self._run(schema.opened, self._path)

    async def read(self, work: Work[_T]) -> _T:
        """Do it outside of a transaction; `errors.StorageError` if the file cannot be read."""
        return await self._run(self._read, work)

    async def write(self, work: Work[_T], *, is_critical: bool = False) -> _T:
        """Do it in the next transaction, and return once that is committed.

        A critical one is on the disk then; another survives all but a loss of power. Raises
        `errors.StorageError`: then nothing of this work was done.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), is_critical)
        self._waiting.append(job)
        if not self._is_called:
            self._is_called = True
            loop.run_in_executor(self._thread, self._commit_waiting, loop)
        found: _T = await job.done
        return found

    async def close(self) -> None:
        """Do what was asked for, and close the file. Safe before `open`, and twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._run(connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    def _read(self, work: Work[_T]) -> _T:
        try:
            return work(self._opened())
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise errors.StorageError(f"{self._path} is closed", "shutdown")
        return self._connection

    def _commit_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the thread: one transaction of all that waits; each alone if that fails."""
        self._is_called = False  # what comes from here on calls again
        jobs = []
        while self._waiting:
            jobs.append(self._waiting.popleft())
        try:
            self._commit(jobs, loop)
        except Exception:  # noqa: BLE001  # the fault of one is not the others'
            for job in jobs:
                self._commit_alone(job, loop)

    def _commit_alone(self, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._commit([job], loop)
        except Exception as error:  # noqa: BLE001  # whoever waits must hear of it
            loop.call_soon_threadsafe(_settle, job.done, None, error)

    def _commit(self, jobs: Iterable[_Job], loop: asyncio.AbstractEventLoop) -> None:
        connection = self._opened()
        try:
            level = "FULL" if any(job.is_critical for job in jobs) else "NORMAL"
            connection.execute(f"PRAGMA synchronous={level}")
            connection.execute("BEGIN IMMEDIATE")
            results = [(job, job.work(connection)) for job in jobs]
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise
        for job, result in results:
            loop.call_soon_threadsafe(_settle, job.done, result, None)

    def _failed(self, error: sqlite3.Error) -> errors.StorageError:
        return schema.failure(self._path, error)


def _settle(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.cancelled():
        return  # nobody waits; it was done all the same
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
