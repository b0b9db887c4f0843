"""A slow block request as a span and a log record: whole, with what is missing named."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Sequence

import pytest
from doubles.storage_tier import Host
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from otel_oom import semconv
from otel_oom.bpf.storage_events import StorageOperation, StorageRequest
from otel_oom.bpf.storage_events import StorageRequestFlag as Flag
from otel_oom.pipeline import otlp
from otel_oom.receivers.storage import devices, encode, requests, workloads
from otel_oom.receivers.storage.config import Config, Filter, Thresholds
from otel_oom.receivers.storage.slow import Slow

VDA, ROOT_FS = 254 << 20, 254 << 20 | 1
MS = 1_000_000
BOOT_TO_UNIX_NS = 1_790_000_000_000_000_000
NOW_NS = BOOT_TO_UNIX_NS + 10**10


class Rig:
    def __init__(self, root: pathlib.Path, **options: object) -> None:
        self.host = Host(root)
        self.host.disk("vda", VDA)
        line = "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        (root / "proc/self/mountinfo").write_text(f"{line}garbage\n1 2 x:y / / rw - tmpfs t rw\n")
        config = Config(**options)  # type: ignore[arg-type]
        cgroups, disks = workloads.Workloads(root), devices.Devices(root, config.devices)
        self.reporter = requests.Reporter(root, config, cgroups, disks)
        self.encoder = encode.Encoder(boot_id="boot", version="1", cgroup_path=cgroups.path)
        self.cgroup = self.host.cgroup("/pod/a")

    def request(self, **changes: object) -> StorageRequest:
        """A read that waited 1 ms in the queue and 24 ms at the device."""
        usual = StorageRequest(
            start_boot_ns=100 * MS,
            issue_boot_ns=101 * MS,
            complete_boot_ns=125 * MS,
            cgroup_id=self.cgroup,
            sector=2048,
            inode=12,
            inode_device=ROOT_FS,
            device=VDA,
            operation=StorageOperation.READ,
            flags=Flag.SYNC | Flag.META,
            data_bytes=131072,
            status=0,
        )
        return usual._replace(**changes)

    def report(self, **changes: object) -> Slow | None:
        return self.reporter.report(self.request(**changes))

    def spans(self, found: Sequence[Slow | None]) -> TracesData:
        asked_for = [one for one in found if one is not None]
        _, spans = self.encoder.batches(asked_for, BOOT_TO_UNIX_NS, NOW_NS)
        assert isinstance(spans.data, TracesData)
        return spans.data

    def told(self, **changes: object) -> tuple[Span, LogRecord]:
        """Span and log record; their bytes are protobuf's own."""
        report = self.report(**changes)
        assert report is not None
        logs, spans = self.encoder.batches([report], BOOT_TO_UNIX_NS, NOW_NS)
        for batch in (spans, logs):
            raw = batch.encoded()
            assert batch.data.SerializeToString() == raw
            assert batch.items == 1
        assert isinstance(spans.data, TracesData)
        assert isinstance(logs.data, LogsData)
        (resource,) = spans.data.resource_spans
        assert logs.data.resource_logs[0].resource == resource.resource
        (scope,) = resource.scope_spans
        assert (scope.scope.name, scope.schema_url) == (semconv.SCOPE_STORAGE, semconv.SCHEMA_URL)
        return scope.spans[0], logs.data.resource_logs[0].scope_logs[0].log_records[0]


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Rig:
    return Rig(tmp_path)


def stages(span: Span) -> list[tuple[str, str, int]]:
    return [
        (
            event.name,
            str(otlp.attributes(event.attributes)["storage.layer"]),
            event.time_unix_nano - BOOT_TO_UNIX_NS,
        )
        for event in span.events
    ]


def test_a_span_goes_from_the_first_stage_to_the_last(rig: Rig) -> None:
    span, log = rig.told()
    assert span.name == "storage.read"
    assert span.kind == Span.SpanKind.SPAN_KIND_INTERNAL
    assert span.start_time_unix_nano == BOOT_TO_UNIX_NS + 100 * MS
    assert span.end_time_unix_nano == BOOT_TO_UNIX_NS + 125 * MS
    assert span.status.code == Status.StatusCode.STATUS_CODE_UNSET
    assert stages(span) == [
        ("block.started", "block_queue", 100 * MS),
        ("block.issued", "block_queue", 101 * MS),
        ("block.completed", "device", 125 * MS),
    ]
    assert otlp.attributes(span.attributes) == {
        "storage.operation": "read",
        "storage.threshold": "total",
        "system.device": "vda",
        "disk.io.direction": "read",
        "storage.bytes": 131072,
        "storage.requests": 1,
        "storage.merged": False,
        "storage.attribution": "cgroup",
        "storage.flags": ["sync", "meta"],
        "storage.sector": 2048,
        "file.inode": "12",
        "system.filesystem.type": "ext4",
        "storage.delay.layer": "device",
        "storage.delay.from": "block.issued",
        "storage.delay.to": "block.completed",
        "storage.delay.gap": 0.024,
        "storage.delay.share": 0.96,
    }
    del log


def test_the_log_has_the_same_and_all_stages(rig: Rig) -> None:
    span, log = rig.told()
    attributes = otlp.attributes(log.attributes)
    assert log.event_name == "storage.slow_operation"
    assert (log.severity_text, log.severity_number) == ("WARN", 13)
    assert (log.trace_id, log.span_id) == (span.trace_id, span.span_id)
    assert (log.time_unix_nano, log.observed_time_unix_nano) == (span.end_time_unix_nano, NOW_NS)
    assert otlp.python_value(log.body) == (
        "read request of inode 12 on vda took 25.0 ms; longest 24.0 ms (96%) in the device, "
        "block.issued to block.completed"
    )
    assert attributes.pop("storage.stages") == [
        {"name": "block.started", "layer": "block_queue", "offset": 0.0},
        {"name": "block.issued", "layer": "block_queue", "offset": 0.001},
        {"name": "block.completed", "layer": "device", "offset": 0.025},
    ]
    assert attributes.pop("log.record.uid") == span.trace_id.hex() + span.span_id.hex()
    assert attributes == otlp.attributes(span.attributes)


def test_all_that_is_told_is_declared(rig: Rig) -> None:
    for changes in ({}, {"issue_boot_ns": 0}, {"status": 10}, {"cgroup_id": 2**50}):
        report = rig.report(**changes)
        assert report is not None
        for item in rig.told(**changes):
            for key in otlp.attributes(item.attributes):
                assert key in semconv.STORAGE_ATTRIBUTES


def test_the_queue_may_be_the_longest(rig: Rig) -> None:
    span, log = rig.told(issue_boot_ns=120 * MS)
    attributes = otlp.attributes(span.attributes)
    assert attributes["storage.delay.layer"] == "block_queue"
    assert (attributes["storage.delay.from"], attributes["storage.delay.gap"]) == (
        "block.started",
        0.02,
    )
    assert "(80%) in the block queue, block.started to block.issued" in str(
        otlp.python_value(log.body)
    )


@pytest.mark.parametrize(
    ("changes", "threshold"),
    [({}, "total"), ({"start_boot_ns": 105 * MS, "issue_boot_ns": 106 * MS + 1}, "total")],
)
def test_the_whole_wins_over_a_stage(rig: Rig, changes: dict[str, int], threshold: str) -> None:
    report = rig.report(**changes)
    assert report is not None
    assert report.verdict.threshold == threshold
    late = rig.report(start_boot_ns=105 * MS + 1, issue_boot_ns=106 * MS)
    assert late is not None
    assert late.verdict.threshold == "stage"


def test_without_the_time_of_issue_there_is_no_verdict(rig: Rig) -> None:
    span, log = rig.told(issue_boot_ns=0)
    attributes = otlp.attributes(span.attributes)
    assert [name for name, *_ in stages(span)] == ["block.started", "block.completed"]
    assert not [key for key in attributes if key.startswith("storage.delay")]
    assert [str(why).partition(":")[0] for why in attributes["storage.missing"]] == [  # type: ignore[union-attr]
        "block.issued, storage.delay.*"
    ]
    assert str(otlp.python_value(log.body)).endswith("in which layer is not known")


def test_without_the_time_of_the_start_the_device_is_told(rig: Rig) -> None:
    span, _ = rig.told(start_boot_ns=0)
    attributes = otlp.attributes(span.attributes)
    assert [name for name, *_ in stages(span)] == ["block.issued", "block.completed"]
    assert attributes["storage.delay.layer"] == "device"
    assert str(attributes["storage.missing"]).startswith("['block.started: ")


def test_a_wait_for_its_own_flush_is_not_laid_on_the_queue(rig: Rig) -> None:
    flags = Flag.AFTER_FLUSH | Flag.PREFLUSH
    attributes = otlp.attributes(rig.told(issue_boot_ns=120 * MS, flags=flags)[0].attributes)
    assert "storage.delay.layer" not in attributes
    assert "flush of its own" in str(attributes["storage.missing"])
    attributes = otlp.attributes(rig.told(flags=flags)[0].attributes)
    assert attributes["storage.delay.layer"] == "device"


def test_a_block_that_is_no_files_says_so(rig: Rig) -> None:
    attributes = otlp.attributes(rig.told(inode_device=99)[0].attributes)
    assert "file.inode" not in attributes
    assert "file.inode: " in str(attributes["storage.missing"])
    attributes = otlp.attributes(rig.told(inode=0)[0].attributes)
    assert not {"file.inode", "storage.missing"} & attributes.keys()


def test_what_is_mounted_later_is_seen_after_a_refresh(rig: Rig) -> None:
    assert "file.inode" not in otlp.attributes(rig.told(inode_device=99)[0].attributes)
    with (rig.host.root / "proc/self/mountinfo").open("a") as table:
        table.write("30 1 0:99 / /x rw - btrfs /dev/vdb rw\n")
    assert "file.inode" not in otlp.attributes(rig.told(inode_device=99)[0].attributes)
    rig.reporter.refresh()
    attributes = otlp.attributes(rig.told(inode_device=99)[0].attributes)
    assert attributes["system.filesystem.type"] == "btrfs"


def test_write_back_on_cgroup_v2_is_the_owner_of_the_file(rig: Rig) -> None:
    changes = {"operation": StorageOperation.WRITE, "flags": Flag.BACKGROUND}
    assert "'inode'" in repr(otlp.attributes(rig.told(**changes)[0].attributes))
    for other in ({"inode": 0}, {"cgroup_id": 1}):
        attributes = otlp.attributes(rig.told(**changes, **other)[0].attributes)
        assert attributes["storage.attribution"] == "cgroup"


def test_an_error_is_on_the_span(rig: Rig) -> None:
    span, log = rig.told(status=10)
    assert span.status.code == Status.StatusCode.STATUS_CODE_ERROR
    assert otlp.attributes(log.attributes)["error.type"] == "EIO"
    assert span.status.message == os.strerror(errno.EIO)
    assert "failed with EIO" in str(otlp.python_value(log.body))
    assert rig.told(status=-errno.ENOSPC)[0].status.message == os.strerror(errno.ENOSPC)


def test_a_flush_has_neither_direction_nor_sector_nor_size(rig: Rig) -> None:
    flush = {"operation": StorageOperation.FLUSH, "data_bytes": 0, "sector": 2**64 - 1}
    span, log = rig.told(**flush, inode=0, cgroup_id=0)
    assert span.name == "storage.flush"
    assert not {"disk.io.direction", "storage.sector"} & otlp.attributes(span.attributes).keys()
    assert str(otlp.python_value(log.body)).startswith("flush request on vda took 25.0 ms")


@pytest.mark.parametrize(
    ("cgroup", "resource"),
    [(None, {}), (1, {"process.linux.cgroup": "/"}), (2**50, {"storage.cgroup.id": 2**50})],
)
def test_the_workload_is_the_resource(
    rig: Rig, cgroup: int | None, resource: dict[str, object]
) -> None:
    report = rig.report(cgroup_id=cgroup or 0)
    assert report is not None
    data = rig.spans([report])
    assert otlp.attributes(data.resource_spans[0].resource.attributes) == resource


def test_the_same_request_has_the_same_ids_and_another_has_others(rig: Rig) -> None:
    first, again = rig.report(), rig.report()
    others = [rig.report(sector=1), rig.report(complete_boot_ns=1 << 40), rig.report(device=9)]
    assert first is not None
    assert first == again
    ids = {rig.encoder.ids(one.identity) for one in (first, *others) if one}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        ({"filter": Filter(cgroup=["/pod/*"])}, True),
        ({"filter": Filter(cgroup=["/x", "/pod*"])}, True),
        ({"filter": Filter(cgroup=["/pod"])}, False),
        ({"filter": Filter(process=["fio"])}, False),
        ({"filter": Filter(path=["*"])}, False),
        ({"operations": ["write"]}, False),
        ({"devices": ["sd*"]}, False),
        ({"thresholds": Thresholds()}, True),
    ],
)
def test_options_leave_out(
    tmp_path: pathlib.Path, options: dict[str, object], *, is_told: bool
) -> None:
    assert (Rig(tmp_path, **options).report() is not None) == is_told


def test_reports_of_several_cgroups_are_apart(rig: Rig) -> None:
    found = [rig.report(), rig.report(cgroup_id=1), rig.report(sector=5)]
    data = rig.spans(found)
    assert [len(r.scope_spans[0].spans) for r in data.resource_spans] == [2, 1]


def test_numbers_of_any_size_are_encoded(rig: Rig) -> None:
    huge = dict.fromkeys(("sector", "inode", "cgroup_id"), 2**64 - 1)
    rig.told(**huge, operation=2**32 - 1, flags=2**32 - 1, device=2**32 - 1, status=-(2**31))
