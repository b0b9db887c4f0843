"""Reports of the operation tier, as its kernel side writes them; times are in milliseconds.

The operation begins at `BEGIN_MS`; every other time that is given counts from there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from otel_oom.bpf import storage_operations_events as events
from otel_oom.bpf.storage_operations_events import (
    StorageCall,
    StorageCause,
    StorageEvent,
    StorageFile,
    StorageOperation,
    StorageOperationFlag,
    StorageRequest,
    StorageWait,
)
from otel_oom.receivers.storage import records, timeline

BEGIN_MS = 5_000_000
NS_PER_MS = 1_000_000
DISK = 259 << 20 | 3
EXT4_MAGIC = 0xEF53
WAITS = events.StorageOperationLayout.OFFSETS["wait"][1] // events.StorageWaitLayout.SIZE_BYTES
EVENTS = events.StorageOperationLayout.OFFSETS["at"][1] // 8
CAUSES = events.StorageOperationLayout.OFFSETS["waited_ns"][1] // 8
NO_FILE = StorageFile(inode=0, device=0, magic=0, fd=0, mode=0)
SUBMITTER = 42
NO_COMMIT = bytes(events.StorageOperationLayout.SIZE_BYTES)

Stages = list[tuple[str, float, str]]


def ns(offset_ms: float | None) -> int:
    """A time of the kernel; None is one that was not seen."""
    return 0 if offset_ms is None else round((BEGIN_MS + offset_ms) * NS_PER_MS)


def request(
    start: float | None = None,
    issue: float | None = None,
    complete: float | None = None,
    **fields: int,
) -> StorageRequest:
    """A block request."""
    return StorageRequest(
        start_ns=ns(start),
        issue_ns=ns(issue),
        complete_ns=ns(complete),
        **{"sector": 2048, "bytes": 4096, "device": DISK, "flags": 0, "reserved": 0, **fields},
    )


def wait(
    sleep: float,
    waking: float | None,
    run: float,
    cause: StorageCause = StorageCause.UNKNOWN,
    *,
    by: StorageRequest | None = None,
    queued: float | None = None,
    flags: int = 0,
    transaction: int = 0,
) -> StorageWait:
    """A wait; of the cause REQUEST if it is `by` a request and no other is given."""
    if by is not None and cause == StorageCause.UNKNOWN:
        cause = StorageCause.REQUEST
    packed = events.StorageRequestLayout.FORMAT.pack(*(by or request()))
    return StorageWait(
        ns(sleep), ns(waking), ns(run), ns(queued), packed, cause, int(flags), 0, transaction
    )


def operation(
    end: float,
    waits: Iterable[StorageWait] = (),
    at: Mapping[StorageEvent, float] | None = None,
    *,
    call: StorageCall = StorageCall.FSYNC,
    begin: float = 0,
    file: StorageFile | None = None,
    comm: bytes = b"postgres",
    all_waits: int | None = None,
    **fields: Any,
) -> StorageOperation:
    """An operation; `all_waits` counts those that were not kept, too."""
    kept = list(waits)
    times = {StorageEvent.ENTER: begin, StorageEvent.EXIT: end, **(at or {})}
    waited = [0] * CAUSES
    for each in kept:
        waited[each.cause % CAUSES] += max(0, each.run_ns - each.sleep_ns)
    waited = fields.pop("waited_ns", waited)
    every = [*kept, *[StorageWait._make([0] * 4 + [bytes(48)] + [0] * 4)] * (WAITS - len(kept))]
    file = file or StorageFile(inode=4711, device=DISK, magic=EXT4_MAGIC, fd=7, mode=0o100644)
    return StorageOperation(
        at=struct.pack(f"<{EVENTS}Q", *(ns(times.get(i)) for i in range(EVENTS))),
        waited_ns=struct.pack(f"<{CAUSES}Q", *waited),
        file=packed_file(file),
        wait=b"".join(events.StorageWaitLayout.FORMAT.pack(*each) for each in every),
        comm=comm.ljust(16, b"\0"),
        **{
            "number": 42,
            "tid": 1235,
            "tgid": 1234,
            "call": call,
            "waits": len(kept) if all_waits is None else all_waits,
            "bios": 1,
            "cache_misses": 0,
            "transaction": 0,
            "flags": 0,
            "runnable_ns": 0,
            "reclaim_ns": 0,
            "result": 0,
            "cgroup_id": 99,
            "start_boot_ns": 77,
            "submitter": 0,
            "submit_ns": 0,
            **fields,
        },
    )


def commit(
    end: float,
    waits: Iterable[StorageWait] = (),
    *,
    begin: float = 0,
    transaction: int = 5,
    locking: float | None = None,
    flushing: float | None = None,
    logging: float | None = None,
) -> StorageOperation:
    """A commit of a journal, by its thread."""
    times = {
        StorageEvent.COMMIT_LOCKING: locking,
        StorageEvent.COMMIT_FLUSHING: flushing,
        StorageEvent.COMMIT_LOGGING: logging,
    }
    return operation(
        end,
        waits,
        {event: at for event, at in times.items() if at is not None},
        begin=begin,
        call=StorageCall.COMMIT,
        transaction=transaction,
        comm=b"jbd2/loop0-8",
        number=43,
    )


def asynchronous(end: float, by: StorageRequest, **fields: Any) -> StorageOperation:
    """A read that the call of `submission` submitted, which ends with this request."""
    only = {
        "call": StorageCall.READ,
        "flags": StorageOperationFlag.ASYNCHRONOUS,
        "submitter": SUBMITTER,
        "submit_ns": ns(-1),
        "number": 43,
        "result": by.bytes,
        **fields,
    }
    return operation(end, [wait(0, end, end, StorageCause.REQUEST, by=by, queued=0)], **only)


def submission(end: float) -> StorageOperation:
    """The call that submitted it."""
    return operation(
        end, begin=-1, call=StorageCall.SUBMIT, number=SUBMITTER, file=NO_FILE, result=1
    )


def packed(raw: StorageOperation, joined: StorageOperation | None = None) -> bytes:
    """The ring record."""
    form = events.StorageOperationLayout.FORMAT
    return form.pack(*raw) + (form.pack(*joined) if joined else NO_COMMIT)


def packed_file(file: StorageFile) -> bytes:
    """A file as it stands in an operation."""
    return events.StorageFileLayout.FORMAT.pack(*file)


def shifted(raw: StorageOperation, by_ns: int) -> StorageOperation:
    """The same operation at another time."""
    at = struct.unpack(f"<{EVENTS}Q", raw.at)
    found = []
    for each in map(StorageWait._make, events.StorageWaitLayout.FORMAT.iter_unpack(raw.wait)):
        block = StorageRequest._make(events.StorageRequestLayout.FORMAT.unpack(each.request))
        later = block._replace(
            start_ns=_later(block.start_ns, by_ns),
            issue_ns=_later(block.issue_ns, by_ns),
            complete_ns=_later(block.complete_ns, by_ns),
        )
        found.append(
            each._replace(
                sleep_ns=_later(each.sleep_ns, by_ns),
                waking_ns=_later(each.waking_ns, by_ns),
                run_ns=_later(each.run_ns, by_ns),
                queue_ns=_later(each.queue_ns, by_ns),
                request=events.StorageRequestLayout.FORMAT.pack(*later),
            )
        )
    return raw._replace(
        at=struct.pack(f"<{EVENTS}Q", *(_later(time_ns, by_ns) for time_ns in at)),
        wait=b"".join(events.StorageWaitLayout.FORMAT.pack(*each) for each in found),
    )


def _later(time_ns: int, by_ns: int) -> int:
    return time_ns + by_ns if time_ns else 0


def decoded(raw: StorageOperation, joined: StorageOperation | None = None) -> records.Operation:
    """The record as the agent has it."""
    return records.decode(packed(raw, joined))


def timed(
    raw: StorageOperation, joined: StorageOperation | None = None, *, scheduler: bool = False
) -> timeline.Timeline:
    """Its timeline; no device has an I/O scheduler, or each has."""
    return timeline.of(decoded(raw, joined), lambda _device: scheduler)


def told(line: timeline.Timeline) -> Stages:
    """Each stage's name, time in milliseconds and layer."""
    return [
        (kind.name, (time_ns - ns(0)) / NS_PER_MS, kind.layer)
        for kind, time_ns in zip(line.kinds, line.times_ns, strict=True)
    ]


def by_layer(line: timeline.Timeline) -> dict[str, float]:
    """Milliseconds in each layer."""
    found: dict[str, float] = {}
    for gap_ns, kind in zip(line.gaps_ns(), line.kinds[1:], strict=True):
        if gap_ns:
            found[kind.layer] = found.get(kind.layer, 0) + gap_ns / NS_PER_MS
    return found
