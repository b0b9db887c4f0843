"""The receiver in this process, on this machine's kernel: real loop devices, real requests.

Others use disks at the same time, so each test looks at its own device and its own cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from doubles import block_cgroup, block_device, storage_points
from doubles.sink import Bench, Sink
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from otel_oom import errors
from otel_oom.config.types import ByteSize, Duration
from otel_oom.pipeline import component, otlp
from otel_oom.pipeline.data import Signal
from otel_oom.receivers import storage
from otel_oom.receivers.storage import capture
from otel_oom.receivers.storage.config import Config, Filter, Thresholds

pytestmark = pytest.mark.root

MIB = 1 << 20
EVERYTHING = Thresholds(stage=Duration(0), total=Duration(0))
NEVER = Thresholds(stage=Duration(1e6), total=Duration(1e6))
DEVICE, QUEUE = "storage.block.device.duration", "storage.block.queue.duration"
CALLS = "storage.operation.duration"


@pytest.fixture
def device() -> Iterator[block_device.Device]:
    with block_device.sparse_file(64 * MIB) as backing, block_device.loop(backing) as made:
        yield made


@pytest.fixture
def group() -> Iterator[block_cgroup.BlockCgroup]:
    if block_cgroup.hierarchy() is None:
        pytest.skip("needs a cgroup that accounts block I/O: mount cgroup2, or blkio of v1")
    with block_cgroup.temporary() as (made,):
        yield made


def is_request(told: Span | LogRecord, device: str) -> bool:
    """Whether it is of a block request; a system call's names the task."""
    found = otlp.attributes(told.attributes)
    return found.get("system.device") == device and found["storage.attribution"] != "task"


def is_call(told: Span | LogRecord, device: str) -> bool:
    """Whether it is of a system call."""
    found = otlp.attributes(told.attributes)
    return found.get("system.device") == device and found["storage.attribution"] == "task"


class Run:
    """A receiver between its start and its stop, and what it handed on."""

    def __init__(self, config: Config, signals: tuple[Signal, ...]) -> None:
        self.bench = Bench()
        self.sink = Sink(self.bench.ledger)
        settings = self.bench.settings("storage")
        self.receiver = storage.StorageReceiver(settings, config, dict.fromkeys(signals, self.sink))

    def points(self) -> storage_points.Points:
        return storage_points.histograms(
            batch.data for batch in self.sink.batches if isinstance(batch.data, MetricsData)
        )

    def spans(
        self, device: str, is_of: Callable[[Span | LogRecord, str], bool] = is_request
    ) -> list[Span]:
        return [
            span
            for batch in self.sink.batches
            if isinstance(batch.data, TracesData)
            for resource in batch.data.resource_spans
            for span in resource.scope_spans[0].spans
            if is_of(span, device)
        ]

    def logs(self, device: str) -> list[LogRecord]:
        return [
            record
            for batch in self.sink.batches
            if isinstance(batch.data, LogsData)
            for resource in batch.data.resource_logs
            for record in resource.scope_logs[0].log_records
            if is_request(record, device)
        ]

    def differences(self) -> list[int]:
        return [self.bench.ledger.balance(signal).difference for signal in Signal]


@contextlib.asynccontextmanager
async def running(
    signals: tuple[Signal, ...] = tuple(Signal), **options: object
) -> AsyncIterator[Run]:
    run = Run(Config(**options), signals)  # type: ignore[arg-type]
    await run.receiver.start()
    try:
        yield run
    finally:
        await run.receiver.shutdown()


async def read(
    group: block_cgroup.BlockCgroup, device: block_device.Device, blocks: int = 100
) -> None:
    """As many reads of 4 KiB, one after the other, past the page cache."""
    command = [
        "dd",
        f"if={device.path}",
        "of=/dev/null",
        "bs=4k",
        f"count={blocks}",
        "iflag=direct",
    ]
    await asyncio.to_thread(group.run, command)


async def test_every_request_is_in_the_histograms_and_none_is_slow(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running(thresholds=NEVER) as run:
        await read(group, device, 100)

    for metric in (DEVICE, QUEUE):
        point = run.points()[metric, group.name, device.name, "read"]
        assert point.count == 100
        assert point.zero_count + sum(point.positive.bucket_counts) == 100
    # Not so of the queue: without a scheduler the kernel has one time for start and issue.
    assert run.points()[DEVICE, group.name, device.name, "read"].sum > 0
    assert run.spans(device.name) == run.logs(device.name) == []
    assert run.differences() == [0, 0, 0]


async def test_every_slow_request_is_a_span_and_a_log_record(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running(thresholds=EVERYTHING) as run:
        await read(group, device, 50)

    spans, logs = run.spans(device.name), run.logs(device.name)
    assert len(spans) == len(logs) == 50, run.receiver.summary()
    assert {span.span_id for span in spans} == {log.span_id for log in logs}
    assert len({span.span_id for span in spans}) == 50
    point = run.points()[DEVICE, group.name, device.name, "read"]
    told = [otlp.attributes(span.attributes) for span in spans]
    assert {one["storage.bytes"] for one in told} == {4096}
    assert sorted(int(str(one["storage.sector"])) for one in told) == [8 * n for n in range(50)]
    times = [
        (span.events[-1].time_unix_nano - span.events[-2].time_unix_nano) / 1e9 for span in spans
    ]
    assert sum(times) == pytest.approx(point.sum, rel=1e-6)
    (slow,) = (line for line in run.receiver.summary() if "slow requests" in line)
    assert "lost in the ring 0 + in the ring 0" in slow


async def test_exemplars_point_at_spans_that_were_sent(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running(thresholds=EVERYTHING) as run:
        await read(group, device, 50)

    point = run.points()[DEVICE, group.name, device.name, "read"]
    ids = {(span.trace_id, span.span_id) for span in run.spans(device.name)}
    assert 1 <= len(point.exemplars) <= 4
    assert {(one.trace_id, one.span_id) for one in point.exemplars} <= ids
    assert max(one.as_double for one in point.exemplars) <= storage_points.quantile(point, 1.0)


async def test_exemplars_of_calls_point_at_their_spans(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    """Not at those of the block requests that they waited for."""
    async with running(thresholds=EVERYTHING, sample={"read": 1}) as run:
        await read(group, device, 50)

    point = run.points()[CALLS, group.name, device.name, "read"]
    calls = {
        (span.trace_id, span.span_id): span.end_time_unix_nano - span.start_time_unix_nano
        for span in run.spans(device.name, is_of=is_call)
    }
    assert 1 <= len(point.exemplars) <= 4
    for one in point.exemplars:
        assert one.as_double == pytest.approx(calls[one.trace_id, one.span_id] / 1e9)
    slowest = max(one.as_double for one in point.exemplars)
    assert slowest == pytest.approx(max(calls.values()) / 1e9)
    assert slowest <= storage_points.quantile(point, 1.0)


async def test_collections_go_on_and_only_grow(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running(collection_interval=Duration(0.05), thresholds=NEVER) as run:
        for _ in range(3):
            await read(group, device, 10)
            came = run.sink.items
            await run.sink.wait_for_items(came + 1)

    point = run.points()[DEVICE, group.name, device.name, "read"]  # asserts that none shrinks
    assert point.count == 30


async def test_a_cgroup_that_ends_meanwhile_keeps_its_name(device: block_device.Device) -> None:
    async with running(thresholds=NEVER, collection_interval=Duration(0.05)) as run:
        with block_cgroup.temporary() as (group,):
            await read(group, device, 10)
            await run.sink.wait_for_items(run.sink.items + 1)
        await asyncio.sleep(0.2)

    assert run.points()[DEVICE, group.name, device.name, "read"].count == 10


async def test_a_device_that_goes_and_comes_back_loses_nothing(
    group: block_cgroup.BlockCgroup,
) -> None:
    """Each stream starts where the one before ended, so the counts of all starts are the sum."""
    counts: dict[tuple[str, int], int] = {}
    async with running(thresholds=NEVER, collection_interval=Duration(0.05)) as run:
        for _ in range(3):
            with block_device.sparse_file(8 * MIB) as file, block_device.loop(file) as device:
                await read(group, device, 10)
                await run.sink.wait_for_items(run.sink.items + 1)
    for batch in run.sink.batches:
        assert isinstance(batch.data, MetricsData)
        for (metric, cgroup, name, _), point in storage_points.histograms([batch.data]).items():
            if metric == DEVICE and cgroup == group.name:
                counts[str(name), point.start_time_unix_nano] = point.count

    assert sum(counts.values()) == 30


async def test_a_filter_that_fits_nothing_reports_nothing_and_counts_all(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running(thresholds=EVERYTHING, filter=Filter(cgroup=["/no/such"])) as run:
        await read(group, device, 20)

    assert run.spans(device.name) == []
    assert run.points()[DEVICE, group.name, device.name, "read"].count == 20
    slow = next(line for line in run.receiver.summary() if "slow requests" in line)
    assert "reported 0 + left out by options" in slow
    assert run.differences() == [0, 0, 0]


async def test_a_filter_that_fits_no_call_reports_none_and_counts_all(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    only = Filter(process=["no such process"])
    async with running(thresholds=EVERYTHING, filter=only, sample={"read": 1}) as run:
        await read(group, device, 20)

    names = {
        span.name
        for batch in run.sink.batches
        if isinstance(batch.data, TracesData)
        for resource in batch.data.resource_spans
        for span in resource.scope_spans[0].spans
        if otlp.attributes(span.attributes)["storage.attribution"] == "task"
    }
    assert names == set()
    calls = run.points()["storage.operation.duration", group.name, device.name, "read"]
    assert calls.count == 20
    (slow,) = (line for line in run.receiver.summary() if line.startswith("operations: slow"))
    left_out = int(slow.split("left out by options ")[1].split()[0])
    assert left_out >= 20
    assert "= reported 0 +" in slow
    assert run.differences() == [0, 0, 0]


async def test_signals_that_no_pipeline_wants_are_not_produced(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running((Signal.METRICS,), thresholds=EVERYTHING) as run:
        await read(group, device, 5)

    assert {batch.signal for batch in run.sink.batches} == {Signal.METRICS}
    assert run.bench.ledger.balance(Signal.LOGS).produced == 0


async def test_a_ring_that_overflows_is_counted_exactly(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    """The way out is shut, and a small ring fills; what it lost and what it told is all."""
    async with running(
        thresholds=EVERYTHING, ring_size=ByteSize(4096), devices=[device.name]
    ) as run:
        run.sink.open.clear()
        asyncio.get_running_loop().remove_reader(run.receiver._capture.tiers[0].fd)  # type: ignore[union-attr]
        await read(group, device, 500)
        run.sink.open.set()

    (slow,) = (line for line in run.receiver.summary() if "slow requests" in line)
    numbers = [int(word) for word in slow.replace(",", " ").split() if word.isdigit()]
    total, reported, left_out, lost, waiting = numbers
    assert total == reported + left_out + lost
    assert waiting == 0
    assert lost > 400
    assert len(run.spans(device.name)) == reported
    assert run.points()[DEVICE, group.name, device.name, "read"].count == 500


async def test_more_series_than_there_is_room_for_are_told_together(
    device: block_device.Device,
) -> None:
    async with running(thresholds=NEVER, max_series=1, devices=[device.name]) as run:
        for _ in range(3):
            with block_cgroup.temporary() as (group,):
                await read(group, device, 10)

    points = run.points()
    overflow = points[DEVICE, None, None, "read"]
    assert otlp.attributes(overflow.attributes)["otel.metric.overflow"] is True
    assert overflow.count >= 20


async def test_what_is_refused_is_dropped_and_counted(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    async with running(thresholds=EVERYTHING) as run:
        run.sink.refusal = errors.Refused("no", reason="test")
        await read(group, device, 10)

    assert run.sink.batches == []
    assert run.differences() == [0, 0, 0]
    assert run.bench.ledger.balance(Signal.TRACES).dropped["test"] >= 10


async def test_it_says_how_it_sees(device: block_device.Device) -> None:
    async with running() as run:
        status = run.bench.board.statuses()["storage"]
        assert status.state is component.State.OK
        assert "block_rq_complete" in status.detail
        assert run.receiver.summary()
    await run.receiver.shutdown()  # twice


async def test_without_any_tier_it_does_not_start_and_says_why(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Config(root_path=str(tmp_path)), tuple(Signal))
    with pytest.raises(
        errors.ComponentError, match=r"storage operations cannot be seen: .*root_path"
    ):
        await run.receiver.start()
    await run.receiver.shutdown()

    def refuse(*_: object) -> None:
        raise errors.ProbeUnsupported("there is no such tracepoint")

    monkeypatch.setitem(capture.TIERS, "operations", refuse)  # one of two is enough
    async with running() as started:
        status = started.bench.board.statuses()["storage"]
        assert "without operations: there is no such tracepoint" in status.detail


async def test_a_stop_that_runs_out_of_time_counts_what_it_leaves(
    device: block_device.Device, group: block_cgroup.BlockCgroup
) -> None:
    run = Run(Config(thresholds=EVERYTHING), tuple(Signal))
    await run.receiver.start()
    run.sink.open.clear()
    await read(group, device, 10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run.receiver.shutdown(), 0.3)

    assert run.differences() == [0, 0, 0]
    assert run.bench.ledger.balance(Signal.LOGS).dropped["shutdown"] >= 10
