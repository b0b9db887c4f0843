"""An operation that overlaps an OOM kill of its cgroup links to the kill's span.

The whole agent with both receivers, real kills, a disk that is slow in the moment of the kill;
read back from the file that the exporter wrote.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import signal
import time
from collections.abc import Iterator, Sequence

import pytest
from doubles import (
    agent_process,
    block_cgroup,
    block_device,
    memory_cgroup,
    operations,
    otlp_json_reader,
    slow_fuse,
    storage_injections,
)
from doubles.memory_cgroup import MemoryCgroup
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from otel_oom.pipeline import otlp

pytestmark = [pytest.mark.root, pytest.mark.storage]

MIB = 1 << 20
MARGIN_NS = 5_000_000
"""Unix times of two clocks may differ by the step that is not followed, and by a reading."""


class Told:
    """The spans of one run, as the file exporter wrote them."""

    def __init__(self, path: pathlib.Path) -> None:
        lines = [line for line in path.read_bytes().splitlines() if b"resourceSpans" in line]
        messages = [otlp_json_reader.parse(line, TracesData) for line in lines]
        self.spans: list[Span] = [
            span
            for message in messages
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def kill(self, victim: int) -> Span:
        (found,) = (
            span
            for span in self.spans
            if span.name == "oom.kill" and attributes(span)["process.pid"] == victim
        )
        return found

    def writes(self, pid: int | None) -> list[Span]:
        """Calls of a process; None: block requests."""
        return [
            span
            for span in self.spans
            if span.name == "storage.write" and attributes(span).get("process.pid") == pid
        ]


def attributes(span: Span) -> dict[str, otlp.Value]:
    return otlp.attributes(span.attributes)


def config(folder: pathlib.Path, cgroup: str) -> str:
    pipeline = {"receivers": ["oom", "storage"], "exporters": ["file"]}
    return json.dumps(
        {
            "receivers": {
                "oom": {"state_directory": str(folder / "state")},
                "storage": {"sample": {"write": 1}, "filter": {"cgroup": [cgroup]}},
            },
            "exporters": {"file": {"path": str(folder / "told.jsonl")}},
            "service": {"pipelines": dict.fromkeys(("logs", "traces", "metrics"), pipeline)},
        }
    )


@contextlib.contextmanager
def with_io(group: MemoryCgroup) -> Iterator[Sequence[pathlib.Path]]:
    """What a task enters to be in this cgroup for memory and for I/O: on v1 two of one path."""
    top = block_cgroup.hierarchy()
    if top is None:
        pytest.skip("needs a cgroup that accounts block I/O: mount cgroup2, or blkio of v1")
    path = top / group.name.lstrip("/")
    is_other = not path.exists()
    if is_other:
        path.mkdir()
    try:
        yield [*{group.path / "cgroup.procs", path / "cgroup.procs"}]
    finally:
        if is_other:
            path.rmdir()


@pytest.fixture
def group() -> Iterator[MemoryCgroup]:
    try:
        with memory_cgroup.temporary(64 * MIB) as made:
            yield made
    except memory_cgroup.Unavailable as error:
        pytest.skip(str(error))


def until_served(slow: slow_fuse.SlowFile) -> None:
    before = slow.served("write")
    deadline = time.monotonic() + 60
    while slow.served("write") == before:
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.01)


def is_linked(span: Span, kill: Span) -> bool:
    """Whether it links to the kill; a kill of others, if the host is short, may be there too."""
    links = {(link.trace_id, link.span_id) for link in span.links}
    return (kill.trace_id, kill.span_id) in links


def overlap_ns(span: Span, kill: Span) -> int:
    """How long both were; negative: the time between them."""
    end = min(span.end_time_unix_nano, kill.end_time_unix_nano)
    return end - max(span.start_time_unix_nano, kill.start_time_unix_nano)


def test_a_write_that_overlaps_a_kill_of_its_cgroup_links_to_it(
    group: MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    with (
        slow_fuse.file(64 * MIB, depth=64) as slow,
        block_device.loop(slow.path, direct_io=True) as device,
        with_io(group) as groups,
        agent_process.running(config(tmp_path, group.name), tmp_path) as agent,
    ):
        slow.delay(write_s=0.3)
        with operations.started("write", device.path, count=8, groups=groups) as task:
            task.begin()
            until_served(slow)
            victim = memory_cgroup.kill(group)
            task.finish()
        agent.stop()

    told = Told(tmp_path / "told.jsonl")
    kill = told.kill(victim)
    for writes in (told.writes(task.tid), told.writes(None)):
        linked = [span for span in writes if is_linked(span, kill)]
        assert len(writes) == 8
        assert linked
        assert all(overlap_ns(span, kill) >= -MARGIN_NS for span in linked)
        others = [span for span in writes if span not in linked]
        assert all(overlap_ns(span, kill) <= MARGIN_NS for span in others)
    (link, *_) = (link for span in told.writes(task.tid) for link in span.links)
    assert otlp.attributes(link.attributes) == {"storage.overlap": "oom.kill"}


def test_a_kill_of_another_cgroup_is_no_link(group: MemoryCgroup, tmp_path: pathlib.Path) -> None:
    with (
        memory_cgroup.temporary(64 * MIB) as other,
        slow_fuse.file(64 * MIB, depth=64) as slow,
        block_device.loop(slow.path, direct_io=True) as device,
        with_io(group) as groups,
        agent_process.running(config(tmp_path, group.name), tmp_path) as agent,
    ):
        slow.delay(write_s=0.3)
        with operations.started("write", device.path, count=3, groups=groups) as task:
            task.begin()
            until_served(slow)
            victim = memory_cgroup.kill(other)
            task.finish()
        agent.stop()

    told = Told(tmp_path / "told.jsonl")
    kill, writes = told.kill(victim), told.writes(task.tid)
    assert any(overlap_ns(span, kill) > 0 for span in writes)
    assert not any(is_linked(span, kill) for span in writes)


def test_a_write_that_waits_for_memory_says_so_and_links_to_the_kill_that_came_of_it(
    tmp_path: pathlib.Path,
) -> None:
    with contextlib.ExitStack() as stack:
        try:
            scene = stack.enter_context(storage_injections.reclaim())
        except (storage_injections.Unavailable, memory_cgroup.Unavailable) as error:
            pytest.skip(str(error))
        path = scene.groups[0].parent
        group = MemoryCgroup(path, path.parent)
        groups = stack.enter_context(with_io(group))
        agent = stack.enter_context(agent_process.running(config(tmp_path, group.name), tmp_path))
        with operations.started(
            "buffered_write", scene.path, count=40, bytes_=4 * MIB, groups=groups
        ) as task:
            task.begin()
            hog = group.hog("adj=1000", "eat=100M")
            assert hog.wait() == -signal.SIGKILL
            task.finish()
        agent.stop()

    told = Told(tmp_path / "told.jsonl")
    kill = told.kill(hog.pid)
    waited = [
        attributes(span)
        for span in told.writes(task.tid)
        if is_linked(span, kill) and attributes(span)["storage.delay.layer"] == "memory"
    ]
    assert waited
    for found in waited:
        reclaim_s = found["storage.reclaim.duration"]
        assert isinstance(reclaim_s, float)
        assert reclaim_s >= float(str(found["storage.delay.gap"])) * 0.5
