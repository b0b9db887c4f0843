"""Keeps exporters' queues in a directory: a record that is accepted outlives the agent.

The options are those of the collector's `file_storage`, as far as they have a meaning here. Where
the collector's storage may lose what it has accepted, this one does not: every request is a row
with a checksum, and is on the disk before it counts as accepted. One agent has a directory.
"""

from __future__ import annotations

import dataclasses
import fcntl
import io
import pathlib

from otel_oom import errors
from otel_oom.config.types import ByteSize, Violations
from otel_oom.extensions.file_storage.control import Control
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.durable.database import Database
from otel_oom.pipeline.durable.limit import Limit
from otel_oom.pipeline.durable.requests import Added, Requests
from otel_oom.pipeline.durable.salvage import Report

FILE, _LOCK = "queue.db", "lock"
_LEAST_BYTES = 256 << 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `file_storage` extension."""

    directory: str = "/var/lib/otel-oom/file_storage"
    """Where the files are, an absolute path; one agent alone may use it. Default
    `/var/lib/otel-oom/file_storage`."""

    create_directory: bool = False
    """Whether the directory is made if it is not there. Default false: it is an error then."""

    directory_permissions: str = "0750"
    """Permissions of a directory that is made, in octal. Default `0750`."""

    disk_reserve_mib: int = 8
    """MiB of the disk that are taken at the start and given up when the disk is full: for critical
    requests (weight 10) and for the removal of what was delivered. Others are refused then
    (`storage_full`). Default 8; 0 keeps none."""

    max_size: ByteSize = ByteSize(1 << 30)
    """How large the file may become, for all queues in it, default 1GiB. A tenth of it is for the
    critical weight alone. Once it is full, what was refused by a destination goes first, then what
    came last of the lowest weight (`evicted`); if that is no lower than what comes, what comes is
    refused (`queue_full`). Beside the file there is its log, of some MiB."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.disk_reserve_mib < 0:
            text = f"`disk_reserve_mib` ({self.disk_reserve_mib}) must not be negative"
            yield ("disk_reserve_mib",), text
        if self.max_size < _LEAST_BYTES:
            yield ("max_size",), f"`max_size` ({self.max_size}) must be at least {_LEAST_BYTES}"
        if not pathlib.Path(self.directory).is_absolute():
            yield ("directory",), f"`directory` ({self.directory}) must be an absolute path"
        if not _is_octal(self.directory_permissions):
            text = f"`directory_permissions` ({self.directory_permissions}) must be octal: '0750'"
            yield ("directory_permissions",), text


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
        database = Database(self._folder / FILE, self._count, self._config.disk_reserve_mib << 20)
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


def _is_octal(text: str) -> bool:
    return bool(text) and all(digit in "01234567" for digit in text)


FACTORY = component.Factory(
    type_name="file_storage",
    kind=component.Kind.EXTENSION,
    config=Config,
    create=FileStorage,
)
