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
from collections.abc import Callable
from typing import Any, TypeVar

from otel_oom import errors
from otel_oom.pipeline.durable.salvage import Report
from otel_oom.pipeline.durable.store import Store

_T = TypeVar("_T")

Work = Callable[[sqlite3.Connection], _T]
"""What is done with the connection; it neither begins a transaction nor ends one."""


@dataclasses.dataclass(slots=True)
class _Job:
    """Work that waits for the next transaction."""

    work: Work[Any]
    done: asyncio.Future[Any]
    is_critical: bool
    frees: bool


class Database:
    """The file of one storage. Every method is called from the event loop's thread.

    `on_report` is called there, too, each time that the file was damaged and made anew.
    """

    def __init__(
        self,
        path: pathlib.Path,
        on_report: Callable[[Report], None] = lambda _: None,
        reserve_bytes: int = 0,
        *,
        syncs_all: bool = False,
    ) -> None:
        self._path = path
        self._reserve_bytes = reserve_bytes
        self._syncs_all = syncs_all
        self._on_report = on_report
        self._store: Store | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "file_storage")
        self._waiting: collections.deque[_Job] = collections.deque()
        self._is_called = False

    async def open(self) -> None:
        """Open or make the file; `errors.StorageError` says why it cannot be used."""
        loop = asyncio.get_running_loop()

        def report(one: Report) -> None:
            loop.call_soon_threadsafe(self._on_report, one)

        self._store = await self._run(Store, self._path, report, self._reserve_bytes)

    async def read(self, work: Work[_T]) -> _T:
        """Do it outside of a transaction; `errors.StorageError` if the file cannot be read."""
        found: _T = await self._run(lambda: self._opened().read(work))
        return found

    async def write(self, work: Work[_T], *, is_critical: bool = False, frees: bool = False) -> _T:
        """Do it in the next transaction, and return once that is committed.

        A critical one is on the disk then; another survives all but a loss of power. On a full
        disk there is a reserve for the critical, and for what `frees` room in the queue. Raises
        `errors.StorageError`: then nothing of this work was done.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future(), is_critical, frees)
        self._waiting.append(job)
        if not self._is_called:
            self._is_called = True
            loop.run_in_executor(self._thread, self._commit_waiting, loop)
        found: _T = await job.done
        return found

    async def close(self) -> None:
        """Do what was asked for, and close the file. Safe before `open`, and twice."""
        store, self._store = self._store, None
        if store is not None:
            await self._run(store.close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    def _opened(self) -> Store:
        if self._store is None:
            raise errors.StorageError(f"{self._path} is closed", "shutdown")
        return self._store

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

    def _commit(self, jobs: list[_Job], loop: asyncio.AbstractEventLoop) -> None:
        works = [job.work for job in jobs]
        is_synced = self._syncs_all or any(job.is_critical for job in jobs)
        may_use_reserve = all(job.is_critical or job.frees for job in jobs)
        store = self._opened()
        results = store.write(works, is_synced=is_synced, may_use_reserve=may_use_reserve)
        for job, result in zip(jobs, results, strict=True):
            loop.call_soon_threadsafe(_settle, job.done, result, None)


def _settle(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.cancelled():
        return  # nobody waits; it was done all the same
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
