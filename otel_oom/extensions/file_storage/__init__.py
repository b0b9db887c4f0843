"""Keeps exporters' queues in a directory: a record that is accepted outlives the agent.

A block of the collector's `file_storage` is taken as it is. Where the collector's storage may lose
what it has accepted, this one does not: every request is a row with a checksum, and is in the file
before it counts as accepted; one of the critical weight is on the disk. One agent has a directory.
"""

from __future__ import annotations

import fcntl
import io
import pathlib

from otel_oom import errors
from otel_oom.extensions.file_storage.config import Config
from otel_oom.extensions.file_storage.control import Control
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.database import Database
from otel_oom.pipeline.durable.limit import Limit
from otel_oom.pipeline.durable.requests import Added, Requests
from otel_oom.pipeline.durable.salvage import Report

FILE, _LOCK = "queue.db", "lock"


class FileStorage:
    """One directory, locked while the agent runs, with one database."""

    def __init__(self, settings: component.Settings, config: Config) -> None:
        self._config = config
        self._folder = pathlib.Path(config.directory)
        self._database: Database | None = None
        self._lock: io.TextIOWrapper | None = None
        self._settings = settings
        self._control: Control | None = None
        self._listeners: dict[str, Added] = {}
        self.limit = Limit(config.max_size)
        settings.storages.offer(settings.name, self)

    def database(self) -> Database:
        """The open database."""
        if self._database is None:
            raise errors.StorageError(f"the storage in {self._folder} is not open", "shutdown")
        return self._database

    def listen(self, queue: str, added: Added) -> None:
        """Call `added` with what an operator has put back into a queue."""
        self._listeners[queue] = added

    def ignore(self, queue: str) -> None:
        """Nobody sends from this queue any more."""
        self._listeners.pop(queue, None)

    def requests(self) -> Requests:
        """The operator's way to the queues."""
        return Requests(self.database(), self._listeners)

    async def start(self) -> None:
        """Take the directory and open the database, or say what stands against it."""
        try:
            self._make_folder()
            self._take_lock()
        except OSError as error:
            raise errors.ComponentError(
                f"cannot use `directory` {self._folder}: {error.strerror or error}; "
                "give the agent's user the right to write there, or choose another"
            ) from error
        reserve_bytes, syncs_all = self._config.disk_reserve_mib << 20, self._config.fsync
        path = self._folder / FILE
        database = Database(path, self._count, reserve_bytes, syncs_all=syncs_all)
        try:
            await database.open()
        except errors.StorageError as error:
            raise errors.ComponentError(str(error)) from error
        self._database = database
        self._control = Control(self._folder, self.requests().answer)
        await self._control.start()

    async def shutdown(self) -> None:
        """Close the database and let go of the directory."""
        control, self._control = self._control, None
        if control is not None:
            await control.close()
        database, self._database = self._database, None
        if database is not None:
            await database.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def _count(self, report: Report) -> None:
        """What an earlier life left and damage took: found, and given up."""
        ledger, name = self._settings.ledger, self._settings.name
        for (_, signal), (_, items) in report.gone.items():
            of = Signal(signal) if signal in list(Signal) else Signal.LOGS
            ledger.recovered(name, of, items)
            ledger.dropped(name, of, items, "storage_damaged")

    def _make_folder(self) -> None:
        if self._folder.is_dir():
            return
        if not self._config.create_directory:
            raise errors.ComponentError(
                f"`directory` {self._folder} is not there; make it, or set `create_directory: true`"
            )
        self._folder.mkdir(int(self._config.directory_permissions, 8), parents=True)

    def _take_lock(self) -> None:
        """The lock ends with the process, however that ends."""
        lock = (self._folder / _LOCK).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise errors.ComponentError(
                f"`directory` {self._folder} is in use by another agent; give each its own"
            ) from None
        self._lock = lock


FACTORY = component.Factory(
    type_name="file_storage",
    kind=component.Kind.EXTENSION,
    config=Config,
    create=FileStorage,
)
