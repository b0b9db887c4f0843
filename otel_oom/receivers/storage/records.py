"""Reports of the operation tier as Python values: decoded once, checked, in the kernel's terms.

Bytes from the ring are not trusted: what cannot be an operation raises `BadRecord`, and whoever
drains the ring counts it. Times that contradict each other are no reason to refuse a report:
the wake-up of a wait is written by another CPU. The timeline clips them.
"""

from __future__ import annotations

import operator
import struct
from typing import NamedTuple

from otel_oom import errors
from otel_oom.bpf import storage_operations_events as events
from otel_oom.bpf.storage_operations_events import (
    StorageCall,
    StorageCause,
    StorageEvent,
    StorageFile,
    StorageOperation,
    StorageRequest,
)

_OPERATION = events.StorageOperationLayout.FORMAT
_REPORT_BYTES = events.StorageReportLayout.SIZE_BYTES
_WAIT = events.StorageWaitLayout.FORMAT
_REQUEST = events.StorageRequestLayout.FORMAT
_FILE = events.StorageFileLayout.FORMAT
_EIGHT_BYTES = 8
_COMMIT_NUMBER = slice(_OPERATION.size, _OPERATION.size + _EIGHT_BYTES)
_NO_NUMBER = bytes(_EIGHT_BYTES)


def _numbers(field: str) -> struct.Struct:
    """The format of an array of 64-bit numbers in an operation."""
    _, size_bytes = events.StorageOperationLayout.OFFSETS[field]
    return struct.Struct(f"<{size_bytes // _EIGHT_BYTES}Q")


_AT, _WAITED = _numbers("at"), _numbers("waited_ns")

# Plain ints: an enum's comparison takes ten times as long.
_ENTER, _EXIT = StorageEvent.ENTER.value, StorageEvent.EXIT.value
_COMMIT = StorageCall.COMMIT.value
_LAST_CALL = StorageCall.SUBMIT.value
_LAST_CAUSE = StorageCause.RECLAIM.value
_HAVE_REQUEST = (StorageCause.REQUEST.value, StorageCause.WORKER.value)
_NONE = StorageCall.NONE.value

_by_sleep = operator.itemgetter(0)
_new = tuple.__new__  # as a named tuple's own constructor does, which is not in C


class Wait(NamedTuple):
    """Off the CPU, from `sleep_ns` to `run_ns`. `request` is there if one ended the wait."""

    sleep_ns: int
    waking_ns: int
    run_ns: int
    queue_ns: int
    request: StorageRequest | None
    cause: int
    flags: int
    waker: int
    transaction: int


class Operation(NamedTuple):
    """A system call, or a journal's commit; `waits` are its longest ones, in order of time."""

    raw: StorageOperation
    at: tuple[int, ...]
    waits: tuple[Wait, ...]
    file: StorageFile
    commit: Operation | None

    @property
    def start_ns(self) -> int:
        """When it was entered, on CLOCK_MONOTONIC as all times of an operation."""
        return self.at[_ENTER]

    @property
    def end_ns(self) -> int:
        """When it returned."""
        return self.at[_EXIT]

    @property
    def duration_ns(self) -> int:
        """The whole of it."""
        return self.at[_EXIT] - self.at[_ENTER]

    @property
    def identity(self) -> tuple[int, ...]:
        """What no other operation has since the boot: thread, number, start."""
        return (self.raw.tid, self.raw.number, self.at[_ENTER])

    @property
    def submitter(self) -> tuple[int, ...] | None:
        """The identity of the call that submitted it, if it is asynchronous."""
        if not self.raw.submitter:
            return None
        return (self.raw.tid, self.raw.submitter, self.raw.submit_ns)

    @property
    def counted_device(self) -> int:
        """That of the series which has counted it: the file's, else an asynchronous request's."""
        if self.raw.submitter and not self.file.inode and self.waits:
            request = self.waits[0].request
            return request.device if request is not None else 0
        return self.file.device

    @property
    def waited_ns(self) -> tuple[int, ...]:
        """Off the CPU by cause: all waits, kept or not."""
        return _WAITED.unpack(self.raw.waited_ns)

    @property
    def left_out(self) -> tuple[int, int]:
        """Number and total nanoseconds of the shorter waits that were not kept."""
        count = self.raw.waits - len(self.waits)
        if count <= 0:
            return 0, 0
        kept_ns = sum(wait.run_ns - wait.sleep_ns for wait in self.waits)
        return count, max(0, sum(self.waited_ns) - kept_ns)


def decode(record: bytes) -> Operation:
    """One ring record; `BadRecord` if our program cannot have written it."""
    if len(record) != _REPORT_BYTES:
        raise errors.BadRecord(
            f"a report of a storage operation has {_REPORT_BYTES} bytes, this one {len(record)}"
        )
    raw = _new(StorageOperation, _OPERATION.unpack_from(record))
    if raw.call == _COMMIT or not _NONE < raw.call <= _LAST_CALL:
        raise errors.BadRecord(f"a storage operation is of the unknown call {raw.call}")
    return _operation(raw, _commit(record))


def _commit(record: bytes) -> Operation | None:
    """The commit that stands behind the operation, if there is one."""
    if record[_COMMIT_NUMBER] == _NO_NUMBER:
        return None
    raw = _new(StorageOperation, _OPERATION.unpack_from(record, _OPERATION.size))
    if raw.call != _COMMIT:
        raise errors.BadRecord(f"a journal's commit says that it is the call {raw.call}")
    return _operation(raw, None)


def _operation(raw: StorageOperation, commit: Operation | None) -> Operation:
    at = _AT.unpack(raw.at)
    if not raw.number or not 0 < at[_ENTER] <= at[_EXIT]:
        raise errors.BadRecord(
            f"the storage operation {raw.number} is from {at[_ENTER]} to {at[_EXIT]} ns"
        )
    waits = [_wait(fields) for fields in _WAIT.iter_unpack(raw.wait) if fields[2]]
    waits.sort(key=_by_sleep)
    file = _new(StorageFile, _FILE.unpack(raw.file))
    return _new(Operation, (raw, at, tuple(waits), file, commit))


def _wait(fields: tuple[int, int, int, int, bytes, int, int, int, int]) -> Wait:
    sleep_ns, waking_ns, run_ns, queue_ns, request, cause, flags, waker, transaction = fields
    if not 0 < sleep_ns <= run_ns or cause > _LAST_CAUSE:
        raise errors.BadRecord(f"a wait from {sleep_ns} to {run_ns} ns is of the cause {cause}")
    woken_by = _new(StorageRequest, _REQUEST.unpack(request)) if cause in _HAVE_REQUEST else None
    return _new(
        Wait, (sleep_ns, waking_ns, run_ns, queue_ns, woken_by, cause, flags, waker, transaction)
    )
