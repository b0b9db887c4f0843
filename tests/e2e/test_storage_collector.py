"""From fio's requests to the collector's file: the command, a real loop device, a real collector."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import (
    agent_process,
    block_cgroup,
    block_device,
    collected,
    otlp_json_reader,
    real_collector,
    storage_points,
    unseen,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

pytestmark = [pytest.mark.root, pytest.mark.go]

MIB = 1 << 20
FIO = "--name=load --bs=4k --iodepth=1 --direct=1 --rw=randrw --rwmixread=70 --norandommap --randseed=7"
DEVICE, QUEUE = "storage.block.device.duration", "storage.block.queue.duration"


@pytest.fixture
def group() -> Iterator[block_cgroup.BlockCgroup]:
    if block_cgroup.hierarchy() is None:
        pytest.skip("needs a cgroup that accounts block I/O: mount cgroup2, or blkio of v1")
    with block_cgroup.temporary() as (made,):
        yield made


@pytest.fixture
def device() -> Iterator[block_device.Device]:
    with block_device.sparse_file(64 * MIB) as backing, block_device.loop(backing) as made:
        yield made


def config(collector: real_collector.Collector, **options: Any) -> str:
    pipeline = {"receivers": ["storage"], "processors": ["resource"], "exporters": ["otlp_grpc"]}
    return json.dumps(
        {
            "receivers": {"storage": {"collection_interval": "500ms", **options}},
            "processors": {"resource": None},
            "exporters": agent_process.plain_grpc(collector.grpc_endpoint),
            "service": {"pipelines": dict.fromkeys(("logs", "traces", "metrics"), pipeline)},
        }
    )


def fio(group: block_cgroup.BlockCgroup, device: block_device.Device, requests: int) -> Any:
    """What fio says of a job of so many requests, one after the other, in the cgroup."""
    if shutil.which("fio") is None:
        pytest.skip("needs fio: apt-get install fio")
    size = f"--io_size={requests * 4096}"
    where = (f"--filename={device.path}", "--output-format=json")
    said = group.run(["fio", *FIO.split(), size, *where])
    return json.loads(said[said.index("{") :])["jobs"][0]


def points(collector: real_collector.Collector) -> storage_points.Points:
    lines = [json.dumps(m).encode() for m in collector.messages() if "resourceMetrics" in m]
    return storage_points.histograms(otlp_json_reader.parse(line, MetricsData) for line in lines)


def test_fios_requests_arrive_in_histograms(
    collector: real_collector.Collector,
    device: block_device.Device,
    group: block_cgroup.BlockCgroup,
    tmp_path: pathlib.Path,
) -> None:
    """As many as fio issued, and none longer than fio itself waited for it."""
    with agent_process.running(config(collector), tmp_path) as agent:
        with unseen.completions(device.number) as hidden:
            job = fio(group, device, 3000)
        stopped = agent.stop()

    assert stopped.status == 0, stopped.stderr
    told = collected.until(
        lambda: _whole(points(collector), group, job, hidden.count), "the last collection"
    )
    for operation in ("read", "write"):
        at_device = told[DEVICE, group.name, device.name, operation]
        in_queue = told[QUEUE, group.name, device.name, operation]
        issued = job[operation]["total_ios"]
        assert issued > 500
        assert issued - hidden.count <= at_device.count <= issued
        assert issued - hidden.count <= in_queue.count <= issued
        assert at_device.scale == 3
        waited_s = job[operation]["lat_ns"]["mean"] * issued / 1e9
        assert 0 < at_device.sum + in_queue.sum <= waited_s
        longest_s = job[operation]["lat_ns"]["max"] / 1e9
        assert storage_points.quantile(at_device, 1.0) <= longest_s * 2 ** (1 / 8)
        assert storage_points.quantile(at_device, 0.5) <= job[operation]["lat_ns"]["mean"] / 1e9 * 4


def _whole(
    found: storage_points.Points, group: block_cgroup.BlockCgroup, job: Any, hidden: int
) -> storage_points.Points:
    """Them, once they have all that fio issued and could be seen; for `until`."""
    counts = {
        key[3]: point.count for key, point in found.items() if key[:2] == (DEVICE, group.name)
    }
    wanted = {kind: job[kind]["total_ios"] - hidden for kind in ("read", "write")}
    is_whole = all(counts.get(kind, 0) >= count for kind, count in wanted.items())
    return found if is_whole else {}


def test_slow_requests_arrive_as_spans_logs_and_exemplars(
    collector: real_collector.Collector,
    device: block_device.Device,
    group: block_cgroup.BlockCgroup,
    tmp_path: pathlib.Path,
) -> None:
    """Everything is slow if the thresholds are 0: then every request arrives in all three."""
    options = {"thresholds": {"stage": 0, "total": 0}, "devices": [device.name]}
    with agent_process.running(config(collector, **options), tmp_path) as agent:
        with unseen.completions(device.number) as hidden:
            job = fio(group, device, 300)
        stopped = agent.stop()

    assert stopped.status == 0, stopped.stderr
    issued = job["read"]["total_ios"] + job["write"]["total_ios"]
    wanted = issued - hidden.count

    def mine(found: list[collected.Found]) -> list[collected.Found]:
        return [
            one
            for one in found
            if one.resource.get("process.linux.cgroup") == group.name
            and one.attributes["storage.attribution"] != "task"  # those are of system calls
        ]

    spans = collected.until(
        lambda: collected.at_least(mine(collected.spans(collector)), wanted), "the spans"
    )
    logs = collected.until(
        lambda: collected.at_least(mine(collected.logs(collector)), wanted), "the log records"
    )
    assert wanted <= len(spans) == len(logs) <= issued
    ids = {(span.item.trace_id, span.item.span_id) for span in spans}
    assert ids == {(log.item.trace_id, log.item.span_id) for log in logs}
    names = [span.item.name for span in spans]
    reads = job["read"]["total_ios"]
    assert reads - hidden.count <= names.count("storage.read") <= reads
    assert {log.item.event_name for log in logs} == {"storage.slow_operation"}
    for span in spans:
        assert span.attributes["system.device"] == device.name
        assert [event.name for event in span.item.events] == [
            "block.started",
            "block.issued",
            "block.completed",
        ]
        assert span.attributes["storage.delay.layer"] in ("device", "block_queue")
    point = points(collector)[DEVICE, group.name, device.name, "read"]
    assert {(one.trace_id, one.span_id) for one in point.exemplars} <= ids
    assert "closed" in stopped.stderr
