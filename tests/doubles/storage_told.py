"""What is told of slow operations, as plain values, and what is expected to be told.

`tests/data/storage_operations.json` has, for each of `variants()`, the log record and the span.
After a wanted change, write it anew with `PYTHONPATH=tests python -m doubles.storage_told`, and
read the diff.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from doubles import storage_record as made
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom.bpf.storage_operations_events import (
    StorageCall,
    StorageCause,
    StorageEvent,
    StorageFile,
    StorageOperation,
    StorageRequestFlag,
)
from otel_oom.pipeline import otlp
from otel_oom.receivers.storage import asynchronous, encode, slow, timeline, verdict

EXPECTED = pathlib.Path(__file__).resolve().parents[1] / "data" / "storage_operations.json"
TO_UNIX_NS = 1_770_000_000_000_000_000
NOW_NS = 1_770_006_000_000_000_000
BOOT_ID = "6d0f2f2e-8a6c-4a0a-9f5f-0f7a3b0a1c11"
PATH = "/var/lib/postgresql/16/main/pg_wal/000000010000000000000042"
CGROUPS = {99: "/system.slice/postgresql.service"}
DEVICES = {made.DISK: "nvme0n1"}

Told = dict[str, Any]
Pair = tuple[StorageOperation, StorageOperation | None]


def read() -> StorageOperation:
    """A read of one request, most of whose time is the device's."""
    by = made.request(start=1.2, issue=1.5, complete=20)
    return made.operation(
        25,
        [made.wait(2, 21, 24, by=by, queued=1)],
        {StorageEvent.CACHE_MISS: 0.5},
        call=StorageCall.READ,
        result=4096,
    )


def fsync() -> Pair:
    """An fsync that waits for its data, and then for the commit of its transaction."""
    data = made.request(start=1.2, issue=1.3, complete=3)
    ordered = made.request(start=24, issue=24, complete=30)
    record = made.request(start=32, issue=34, complete=44, flags=StorageRequestFlag.FLUSH)
    waits = [
        made.wait(1.5, 3, 3.1, by=data, queued=1.1),
        made.wait(4, 47, 50, StorageCause.COMMIT, transaction=5),
    ]
    at = {
        StorageEvent.FS_ENTER: 0.2,
        StorageEvent.WRITEBACK: 1,
        StorageEvent.WRITEBACK_END: 1.4,
        StorageEvent.FS_EXIT: 51,
    }
    joined = made.commit(
        46,
        [
            made.wait(12, 21, 22),
            made.wait(25, 30, 31, by=ordered),
            made.wait(33, 44, 45, by=record),
        ],
        begin=10,
        locking=11,
        flushing=23,
        logging=31.5,
    )
    return made.operation(52, waits, at, transaction=5), joined


def variants() -> dict[str, Pair]:
    """Operations that differ in what is known of them."""
    throttled = made.wait(1, 90, 90.5, StorageCause.THROTTLED)
    no_file = StorageFile(inode=0, device=0, magic=0, fd=0, mode=0)
    other = StorageFile(inode=12, device=8 << 20, magic=0x123456, fd=3, mode=0o100600)
    merged = made.request(start=2, complete=30, flags=StorageRequestFlag.MERGED)
    waited = [5_000_000 + 20_000_000, 0, 0, 0, 0, 0, 0, 0]
    return {
        "read": (read(), None),
        "fsync": fsync(),
        "write that failed": (
            made.operation(91, [throttled], call=StorageCall.WRITE, result=-28),
            None,
        ),
        "rename interrupted": (
            made.operation(
                30, [made.wait(1, 29, 29)], call=StorageCall.RENAME, file=no_file, result=-512
            ),
            None,
        ),
        "unknown file and cgroup": (
            made.operation(
                31,
                [made.wait(1, 30, 30, by=merged)],
                file=other,
                cgroup_id=7,
                comm=b"\x1b[31mred\xff",
            ),
            None,
        ),
        "many waits": (
            made.operation(40, [made.wait(1, 6, 6)], all_waits=21, waited_ns=waited),
            None,
        ),
        "asynchronous read": (
            made.asynchronous(30, made.request(start=1, issue=4, complete=30)),
            None,
        ),
        "reclaim": (made.operation(40, reclaim_ns=39_000_000, call=StorageCall.READ), None),
    }


def known() -> slow.Known:
    """Names of what is in `DEVICES`; one file has a path."""
    return slow.Known(DEVICES.get, lambda operation: PATH if operation.file.fd == 7 else None)


def slows(pairs: Sequence[Pair]) -> list[slow.Slow]:
    """The operations, judged by the default thresholds."""
    judge, found = verdict.Judge(stage_ns=10_000_000, total_ns=20_000_000), []
    for raw, joined in pairs:
        operation = made.decoded(raw, joined)
        stages = asynchronous if asynchronous.is_asynchronous(operation) else timeline
        line = stages.of(operation, lambda _device: True)
        judged = judge.judge(line)
        assert judged is not None
        found.append(slow.of_call(operation, line, judged, known()))
    return found


def encoder(
    overlapping: encode.Overlapping | None = None,
    cgroup_path: Callable[[int], str | None] = CGROUPS.get,
) -> encode.Encoder:
    """An encoder of this host."""
    return encode.Encoder(
        boot_id=BOOT_ID, version="0", cgroup_path=cgroup_path, overlapping=overlapping
    )


def of(pairs: Sequence[Pair], overlapping: encode.Overlapping | None = None) -> list[Told]:
    """What is told of each, in their order within each cgroup."""
    logs, spans = encoder(overlapping).batches(slows(pairs), TO_UNIX_NS, NOW_NS)
    assert logs.items == spans.items == len(pairs)
    assert isinstance(logs.data, LogsData)
    assert isinstance(spans.data, TracesData)
    records = [
        (resource.resource, record)
        for resource in logs.data.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    ended = [
        (resource.resource, span)
        for resource in spans.data.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    return [_log(*one) | _span(*other) for one, other in zip(records, ended, strict=True)]


def _log(resource: Any, log: Any) -> Told:
    attributes = otlp.attributes(log.attributes)
    stages = attributes.pop("storage.stages")
    assert isinstance(stages, list)
    return {
        "log.resource": otlp.attributes(resource.attributes),
        "log.times": [log.time_unix_nano, log.observed_time_unix_nano],
        "log.severity": [log.severity_number, log.severity_text],
        "log.event": log.event_name,
        "log.ids": [log.trace_id.hex(), log.span_id.hex()],
        "log.body": log.body.string_value,
        "log.attributes": attributes,
        "log.stages": ["{name} {layer} {offset}".format(**stage) for stage in stages],
    }


def _span(resource: Any, span: Any) -> Told:
    return {
        "span.resource": otlp.attributes(resource.attributes),
        "span.ids": [span.trace_id.hex(), span.span_id.hex()],
        "span.name": [span.name, span.kind],
        "span.times": [span.start_time_unix_nano, span.end_time_unix_nano],
        "span.attributes": otlp.attributes(span.attributes),
        "span.events": [
            [event.name, event.time_unix_nano, otlp.attributes(event.attributes)]
            for event in span.events
        ],
        "span.links": [
            [link.trace_id.hex(), link.span_id.hex(), otlp.attributes(link.attributes)]
            for link in span.links
        ],
        "span.status": [span.status.code, span.status.message],
    }


def expected() -> dict[str, Told]:
    """What is expected, by variant."""
    found: dict[str, Told] = json.loads(EXPECTED.read_text())
    return found


def _write() -> None:
    found = {name: of([pair])[0] for name, pair in variants().items()}
    EXPECTED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _write()
