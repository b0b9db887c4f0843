"""Asynchronous operations on real devices: each is a span, with a link to who submitted it.

Others submit at the same time, so each test looks at its own device, and where it has to count
what the kernel side counts, at no more than what others cannot have done.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from doubles import asynchronous as submitting
from doubles import block_device, fio, slow_fuse
from doubles.block_device import Device
from doubles.sink import Bench, Sink
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from otel_oom.bpf.storage_operations_events import StorageCall, StorageRequestFlag
from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import Signal
from otel_oom.receivers import storage
from otel_oom.receivers.storage import asynchronous, operations, records
from otel_oom.receivers.storage.config import Config

pytestmark = pytest.mark.root

MIB = 1 << 20
SLOW_S = 0.03
ALWAYS = {"read": 1, "write": 1, "submit": 1}
FLAG = "asynchronous"


@pytest.fixture
def slow() -> Iterator[slow_fuse.SlowFile]:
    with slow_fuse.file(64 * MIB, depth=8) as made:
        yield made


@pytest.fixture
def device(slow: slow_fuse.SlowFile) -> Iterator[Device]:
    with block_device.loop(slow.path, direct_io=True) as made:
        yield made


@contextlib.asynccontextmanager
async def receiving(devices: str) -> AsyncIterator[list[Span]]:
    """The whole receiver; at the end the list has the spans of asynchronous operations."""
    bench, spans = Bench(), list[Span]()
    sink = Sink(bench.ledger)
    config = Config(sample=ALWAYS, devices=[devices])
    receiver = storage.StorageReceiver(bench.settings("storage"), config, {Signal.TRACES: sink})
    await receiver.start()
    try:
        yield spans
    finally:
        await receiver.shutdown()
    for batch in sink.batches:
        assert isinstance(batch.data, TracesData)
        for resource in batch.data.resource_spans:
            found = resource.scope_spans[0].spans
            spans += [span for span in found if FLAG in _flags(span)]


@contextlib.contextmanager
def following(least_s: float = SLOW_S * 0.8, **settings: int) -> Iterator[operations.Operations]:
    """The operation tier alone, which reports what takes so long."""
    running = operations.Operations(
        operations.Settings(
            stage_s=least_s,
            total_s=least_s,
            sample=ALWAYS,
            ring_bytes=1 << 22,
            max_series=1024,
            **settings,
        )
    )
    try:
        yield running
    finally:
        running.close()


def told(running: operations.Operations, device: Device) -> list[records.Operation]:
    """Asynchronous operations on this device."""
    return [
        operation
        for operation in map(records.decode, running.drain())
        if asynchronous.is_asynchronous(operation) and request(operation).device == device.number
    ]


def request(operation: records.Operation) -> records.StorageRequest:
    found = operation.waits[0].request
    assert found is not None
    return found


def submitters(operations_: Sequence[records.Operation]) -> set[tuple[int, ...] | None]:
    return {operation.submitter for operation in operations_}


@pytest.mark.parametrize("rw", ["randread", "randwrite"])
@pytest.mark.parametrize("engine", ["io_uring", "libaio"])
async def test_each_of_a_fio_run_is_a_span_that_names_the_device(
    engine: str, rw: str, slow: slow_fuse.SlowFile, device: Device
) -> None:
    direction = rw.removeprefix("rand")
    async with receiving(device.name) as spans:
        slow.delay(read_s=SLOW_S, write_s=SLOW_S)
        report = await asyncio.to_thread(
            fio.run,
            filename=device.path,
            ioengine=engine,
            rw=rw,
            direct=1,
            iodepth=8,
            number_ios=60,
            size="32m",
        )
        slow.delay()

    found = [otlp.attributes(span.attributes) for span in spans]
    assert len(spans) == report.requests(direction) == 60
    assert {span.name for span in spans} == {f"storage.{direction}"}
    assert [one["storage.delay.layer"] for one in found].count("device") >= 57
    assert {one["storage.bytes"] for one in found} == {4096}
    assert {one["process.executable.name"] for one in found} == {"fio"}
    assert len({span.span_id for span in spans}) == 60
    assert [len(span.links) for span in spans] == [1] * 60
    assert {_what(span) for span in spans} == {"submitter"}


@pytest.mark.parametrize("depth", [1, 4])
async def test_a_device_that_the_options_leave_out_is_not_told_of(
    depth: int, slow: slow_fuse.SlowFile, device: Device
) -> None:
    """Whether the file is known, of one operation, or not, of four."""
    async with receiving(f"not-{device.name}") as spans:
        slow.delay(read_s=SLOW_S)
        await asyncio.to_thread(
            submitting.run, "libaio", "read", device.path, batches=1, depth=depth
        )

    assert spans == []


def _flags(span: Span) -> list[object]:
    flags = otlp.attributes(span.attributes).get("storage.flags", [])
    assert isinstance(flags, list)
    return flags


def _what(span: Span) -> object:
    return otlp.attributes(span.links[0].attributes)["storage.overlap"]


@pytest.mark.parametrize("engine", submitting.ENGINES)
def test_it_lasts_from_the_submission_to_the_result(
    engine: str, slow: slow_fuse.SlowFile, device: Device
) -> None:
    """And the call that submitted it is the one it names, by thread and time."""
    slow.delay(read_s=SLOW_S)
    with following() as running:
        batches = submitting.run(engine, "read", device.path, batches=5)
        found = sorted(told(running, device), key=lambda operation: operation.start_ns)

    assert len(found) == 5
    for batch, operation in zip(batches, found, strict=True):
        assert operation.submitter is not None
        tid, _, submit_ns = operation.submitter
        assert tid == batch.tid
        assert batch.start_ns <= submit_ns <= operation.start_ns <= batch.submitted_ns
        assert batch.submitted_ns - batch.start_ns < SLOW_S * 1e9 <= operation.duration_ns
        assert operation.end_ns <= batch.end_ns
        assert (operation.file.inode, operation.file.device) == (
            device.path.stat().st_ino,
            device.number,
        )


@pytest.mark.parametrize("engine", submitting.ENGINES)
def test_what_one_call_submits_has_one_submitter_and_merged_each_its_own_span(
    engine: str, slow: slow_fuse.SlowFile, device: Device
) -> None:
    slow.delay(write_s=SLOW_S)
    with following() as running:
        submitting.run(engine, "write", device.path, batches=3, depth=16)
        found = told(running, device)

    assert len(found) == 48
    assert len(submitters(found)) == 3
    assert len({operation.identity for operation in found}) == 48
    assert {operation.raw.result for operation in found} == {4096}
    merged = [one for one in found if request(one).flags & StorageRequestFlag.MERGED]
    assert len(merged) == 48, "one plug holds them all, each beside the other"
    assert max(request(one).bytes for one in merged) > 4096


def test_what_the_block_layer_splits_is_told_in_parts(
    slow: slow_fuse.SlowFile, device: Device
) -> None:
    """By libaio: io_uring gives what has to be split to a worker of its own."""
    slow.delay(read_s=SLOW_S)
    with device.set_queue("max_sectors_kb", 64), following() as running:
        submitting.run("libaio", "read", device.path, batches=2, bytes_=256 * 1024)
        found = told(running, device)

    assert len(found) == 8
    assert {operation.raw.result for operation in found} == {64 * 1024}
    assert len({operation.identity for operation in found}) == 8
    assert len(submitters(found)) == 2


@pytest.mark.parametrize("engine", submitting.ENGINES)
def test_a_write_that_has_to_be_safe_ends_after_the_flush(
    engine: str, slow: slow_fuse.SlowFile, device: Device
) -> None:
    """Its request ends twice: with its data, and when the device's cache has been flushed."""
    slow.delay(write_s=SLOW_S / 10, fsync_s=SLOW_S)
    with following() as running:
        report = fio.run(
            filename=device.path,
            ioengine=engine,
            rw="randwrite",
            direct=1,
            sync="dsync",
            iodepth=4,
            number_ios=20,
            size="32m",
        )
        found = told(running, device)

    assert len(found) == report.requests("write") == 20
    assert {operation.raw.result for operation in found} == {4096}
    assert all(request(operation).flags & StorageRequestFlag.FLUSH for operation in found)
    assert min(operation.duration_ns for operation in found) >= SLOW_S * 1e9


@pytest.mark.parametrize("engine", submitting.ENGINES)
def test_an_error_is_the_operations_result(
    engine: str, slow: slow_fuse.SlowFile, device: Device
) -> None:
    slow.delay(read_s=SLOW_S)
    slow.fail("read", 5)
    with following() as running:
        with pytest.raises(subprocess.CalledProcessError):
            submitting.run(engine, "read", device.path, batches=1)
        slow.fail("read", 0)
        (found,) = told(running, device)
        failed = {
            error: count
            for (key, error), count in running.errors().items()
            if key.device == device.number and key.operation == StorageCall.READ
        }

    assert found.raw.result == -5
    assert failed == {5: 1}


def test_a_submitter_that_is_dead_when_it_ends_is_named(
    slow: slow_fuse.SlowFile, device: Device
) -> None:
    """A thread submits and ends; who waits for the results is another."""
    slow.delay(read_s=SLOW_S)
    with following() as running:
        batches = submitting.run("thread", "read", device.path, batches=4, depth=2)
        found = told(running, device)

    assert len(found) == 8
    assert {operation.raw.tid for operation in found} == {batch.tid for batch in batches}
    assert all(operation.raw.tid != operation.raw.tgid for operation in found)
    assert {operation.raw.comm.rstrip(b"\0") for operation in found} == {b"asynchronous"}


def test_a_table_that_is_full_is_counted(slow: slow_fuse.SlowFile, device: Device) -> None:
    """Nobody else's slow requests are on their way for long, so most of what is lost is ours."""
    slow.delay(read_s=SLOW_S)
    with following(max_asynchronous=8) as running:
        submitting.run("io_uring", "read", device.path, batches=1, depth=128)
        found, counts = told(running, device), running.counters()

    assert len(found) <= 8
    assert counts.lost_asynchronous >= 128 - len(found)


def test_a_bio_whose_end_was_not_seen_is_counted_when_it_is_used_again(
    slow: slow_fuse.SlowFile, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the program at the completion no end is seen; the kernel has few bios at a time."""
    choose = operations.Operations._choose

    def without_ends(self: operations.Operations) -> list[str]:
        return [program for program in choose(self) if program != "on_request_complete"]

    monkeypatch.setattr(operations.Operations, "_choose", without_ends)
    with following(max_asynchronous=1024) as running:
        submitting.run("io_uring", "read", device.path, batches=500)
        counts = running.counters()
        found = told(running, device)

    assert found == []
    assert counts.abandoned > 0
    assert counts.abandoned + counts.lost_asynchronous < counts.tracked


def test_a_wait_for_results_is_no_submission(slow: slow_fuse.SlowFile, device: Device) -> None:
    """io_uring_enter that submits and waits in one ends, for us, where it begins to wait."""
    slow.delay(read_s=SLOW_S)
    with following() as running:
        report = fio.run(
            filename=device.path,
            ioengine="io_uring",
            rw="randread",
            direct=1,
            iodepth=1,
            number_ios=20,
            size="32m",
        )
        found = [records.decode(raw) for raw in running.drain()]

    reads = [one for one in found if asynchronous.is_asynchronous(one)]
    reads = [one for one in reads if request(one).device == device.number]
    own = {one.raw.tgid for one in reads}
    assert len(reads) == report.requests("read") == 20
    assert [
        one for one in found if one.raw.call == StorageCall.SUBMIT and one.raw.tgid in own
    ] == []


def test_registered_files_are_not_guessed(slow: slow_fuse.SlowFile, device: Device) -> None:
    slow.delay(read_s=SLOW_S)
    with following() as running:
        fio.run(
            filename=device.path,
            ioengine="io_uring",
            registerfiles=1,
            rw="randread",
            direct=1,
            iodepth=2,
            number_ios=10,
            size="32m",
        )
        found = told(running, device)

    assert len(found) == 10
    assert {operation.file.inode for operation in found} == {0}


@pytest.mark.parametrize("options", [{"sqthread_poll": 1}, {"bs": "256k"}])
def test_what_threads_of_io_uring_issue_is_nobodys(
    options: dict[str, object], slow: slow_fuse.SlowFile, device: Device
) -> None:
    """A thread that polls the ring, or a worker that gets what has to be split."""
    slow.delay(read_s=SLOW_S)
    with device.set_queue("max_sectors_kb", 64), following() as running:
        report = fio.run(
            filename=device.path,
            ioengine="io_uring",
            rw="randread",
            direct=1,
            iodepth=2,
            number_ios=10,
            size="32m",
            **options,
        )
        found = told(running, device)

    assert report.requests("read") == 10
    assert found == []


def test_sampled_submissions_are_told_of_one_in_so_many(
    slow: slow_fuse.SlowFile, device: Device
) -> None:
    """Each CPU counts its own calls, others' too; so of 640 calls there are 10, more or less."""
    running = operations.Operations(
        operations.Settings(
            stage_s=0,
            total_s=0,
            sample={"read": 64, "submit": 64},
            ring_bytes=1 << 22,
            max_series=1024,
        )
    )
    try:
        submitting.run("libaio", "read", device.path, batches=640)
        found = told(running, device)
    finally:
        running.close()

    assert 0 < len(found) < 200
    assert {operation.raw.call for operation in found} == {StorageCall.READ}
