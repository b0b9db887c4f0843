"""Streams only grow, start where they were empty, and end with their cgroup or device."""

from __future__ import annotations

import pathlib

import pytest
from doubles.storage_tier import DEVICE, QUEUE, FakeTier, Host, counted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_oom import semconv
from otel_oom.receivers.storage import devices, streams, workloads
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.histogram import Histogram, Key
from otel_oom.receivers.storage.streams import Point, Stream

VDA, DM = 254 << 20, 253 << 20
READ, WRITE = 0, 1
ERRORS = semconv.METRIC_OPERATION_ERRORS


class Rig:
    """A host, a tier and the streams; every collection is one second after the other."""

    def __init__(self, root: pathlib.Path, **options: object) -> None:
        self.host = Host(root)
        self.host.disk("vda", VDA)
        self.tier = FakeTier()
        self.cgroups = workloads.Workloads(root)
        config = Config(**options)  # type: ignore[arg-type]
        disks = devices.Devices(root, config.devices)
        self.streams = streams.Streams(config, self.cgroups, disks, 0)
        self.now_s = 0

    def collect(self) -> dict[Stream, Point]:
        self.now_s += 1
        points = self.streams.collect([self.tier], self.now_s * 10**9)
        found = {point.stream: point for point in points}
        assert len(found) == len(points), "a stream twice"
        return found


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Rig:
    return Rig(tmp_path)


def stream(cgroup: str | int | None, device: str = "vda", operation: str = "read") -> Stream:
    return Stream(DEVICE, cgroup, device, operation)


def start_s(point: Point) -> float:
    return point.start_ns / 1e9


def test_a_series_becomes_a_stream_with_names(rig: Rig) -> None:
    inode = rig.host.cgroup("/a/b")
    rig.tier.add(Key(inode, VDA, READ), 0.001)
    rig.tier.add(Key(1, VDA, WRITE), 0.002, metric=QUEUE)
    assert rig.collect() == {
        stream("/a/b"): Point(stream("/a/b"), 0, counted(0.001)),
        Stream(QUEUE, "/", "vda", "write"): Point(
            Stream(QUEUE, "/", "vda", "write"), 0, counted(0.002)
        ),
    }


def test_a_stream_that_comes_later_starts_at_the_collection_before(rig: Rig) -> None:
    inode = rig.host.cgroup("/a")
    rig.collect()
    rig.collect()
    rig.tier.add(Key(inode, VDA, READ), 0.001)
    assert start_s(rig.collect()[stream("/a")]) == 2
    rig.tier.add(Key(inode, VDA, READ), 0.001)
    found = rig.collect()[stream("/a")]
    assert (start_s(found), found.total) == (2, counted(0.001, 0.001))


def test_what_is_not_moving_is_the_same_object(rig: Rig) -> None:
    """The encoder rests on it."""
    rig.tier.add(Key(1, VDA, READ), 0.001)
    assert rig.collect()[stream("/")].total is rig.collect()[stream("/")].total


def test_an_empty_histogram_is_no_point(rig: Rig) -> None:
    rig.tier.add(Key(1, VDA, READ))
    rig.tier.errors[Key(1, VDA, READ), "EIO"] = 0
    assert rig.collect() == {}


def test_a_cgroup_that_is_gone_is_told_once_more_and_forgotten(rig: Rig) -> None:
    key = Key(rig.host.cgroup("/a"), VDA, READ)
    rig.tier.add(key, 0.001)
    rig.collect()
    rig.tier.add(key, 0.002)
    rig.host.end_cgroup("/a")
    assert rig.collect()[stream("/a")].total == counted(0.001, 0.002)
    assert rig.tier.forgotten == [key]
    assert rig.collect() == {}
    rig.tier.add(key, 0.003)  # its last write-back
    found = rig.collect()[stream("/a")]
    assert (start_s(found), found.total) == (3, counted(0.003))


def test_a_service_that_is_started_again_goes_on_in_its_stream(rig: Rig) -> None:
    first = Key(rig.host.cgroup("/service"), VDA, READ)
    rig.tier.add(first, 0.001)
    rig.collect()
    rig.host.end_cgroup("/service")
    second = Key(rig.host.cgroup("/service"), VDA, READ)
    rig.tier.add(second, 0.002)
    assert rig.collect()[stream("/service")].total == counted(0.001, 0.002)
    assert rig.tier.forgotten == [first]
    rig.tier.add(second, 0.003)
    found = rig.collect()[stream("/service")]
    assert (start_s(found), found.total) == (0, counted(0.001, 0.002, 0.003))
    rig.host.end_cgroup("/service")
    rig.collect()
    assert rig.collect() == {}


def test_a_service_that_comes_back_after_its_stream_ended_starts_anew(rig: Rig) -> None:
    rig.tier.add(Key(rig.host.cgroup("/service"), VDA, READ), 0.001)
    rig.collect()
    rig.host.end_cgroup("/service")
    rig.collect()
    rig.tier.add(Key(rig.host.cgroup("/service"), VDA, READ), 0.002)
    found = rig.collect()[stream("/service")]
    assert (start_s(found), found.total) == (2, counted(0.002))


def test_a_device_that_is_gone_ends_its_streams(rig: Rig) -> None:
    rig.host.disk("dm-0", DM)
    key = Key(1, DM, READ)
    rig.tier.add(key, 0.001)
    rig.collect()
    rig.host.end_disk(DM)
    assert rig.collect()[stream("/", "dm-0")].total == counted(0.001)
    assert rig.tier.forgotten == [key]
    assert rig.collect() == {}


def test_another_device_of_the_same_number_has_another_stream(rig: Rig) -> None:
    rig.host.disk("dm-0", DM)
    key = Key(1, DM, READ)
    rig.tier.add(key, 0.001)
    rig.collect()
    rig.host.disk("other", DM, sequence=2)
    assert list(rig.collect()) == [stream("/", "dm-0")]
    rig.tier.add(key, 0.002)
    assert rig.collect()[stream("/", "other")].total == counted(0.002)


def test_a_device_that_was_gone_before_it_was_looked_at_has_its_number(rig: Rig) -> None:
    rig.tier.add(Key(1, DM, READ), 0.001)
    assert list(rig.collect()) == [stream("/", "253:0")]


def test_a_cgroup_without_a_path_has_its_id_and_nobody_has_neither(rig: Rig) -> None:
    rig.tier.add(Key(2**60, VDA, READ), 0.001)
    rig.tier.add(Key(0, VDA, 2), 0.001)
    assert set(rig.collect()) == {stream(2**60), stream(None, operation="flush")}


def test_a_call_without_a_file_has_no_device(rig: Rig) -> None:
    rig.tier.add(Key(17, 0, WRITE), 0.001)
    assert list(rig.collect()) == [stream(17, "", "write")]


def test_overflow_is_a_stream_of_its_own_that_never_ends(rig: Rig) -> None:
    rig.tier.add(Key(0, 0, WRITE), 0.001)
    overflow = stream(None, "", "write")._replace(is_overflow=True)
    for _ in range(3):
        assert list(rig.collect()) == [overflow]
    assert rig.tier.forgotten == []


def test_errors_are_counted_by_kind_and_kept_as_times_are(rig: Rig) -> None:
    first = Key(rig.host.cgroup("/a"), VDA, WRITE)
    rig.tier.errors = {(first, "EIO"): 2, (first, "ENOSPC"): 1}
    eio, enospc = (Stream(ERRORS, "/a", "vda", "write", error) for error in ("EIO", "ENOSPC"))
    found = rig.collect()
    assert (found[eio].total, found[enospc].total) == (2, 1)
    rig.host.end_cgroup("/a")
    second = Key(rig.host.cgroup("/a"), VDA, WRITE)
    rig.tier.errors[second, "EIO"] = 5
    assert rig.collect()[eio].total == 7
    found = rig.collect()
    assert found[eio].total == 7
    assert enospc not in found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {DEVICE, QUEUE}),
        ({"operations": ["write"]}, set()),
        ({"devices": ["sd*"]}, set()),
        ({"devices": ["v*"]}, {DEVICE, QUEUE}),
    ],
)
def test_options_leave_out(
    tmp_path: pathlib.Path, options: dict[str, list[str]], told: set[semconv.Metric]
) -> None:
    rig = Rig(tmp_path, **options)
    for metric in (DEVICE, QUEUE):
        rig.tier.add(Key(1, VDA, READ), 0.001, metric=metric)
    assert {found.metric for found in rig.collect()} == told
    rig.host.end_disk(VDA)
    rig.collect()
    assert rig.tier.forgotten == [Key(1, VDA, READ)], "what is not told of has a slot, too"


@pytest.mark.parametrize(("include", "told"), [(False, {QUEUE}), (True, {QUEUE, DEVICE})])
def test_time_at_a_stacked_device_is_told_only_if_asked_for(
    tmp_path: pathlib.Path, *, include: bool, told: set[semconv.Metric]
) -> None:
    rig = Rig(tmp_path, include_stacked=include)
    rig.host.disk("dm-0", DM, stacked=True)
    for metric in (DEVICE, QUEUE):
        rig.tier.add(Key(1, DM, READ), 0.001, metric=metric)
    assert {found.metric for found in rig.collect()} == told


def test_two_tiers_of_one_host(rig: Rig) -> None:
    operations, metric = FakeTier("operations"), semconv.METRIC_OPERATION_DURATION
    rig.tier.add(Key(1, VDA, READ), 0.001)
    operations.add(Key(1, VDA, READ), 0.002, metric=metric)
    both = rig.streams.collect([rig.tier, operations], 1)
    assert {(point.stream.metric, point.start_ns) for point in both} == {(DEVICE, 0), (metric, 0)}
    assert rig.streams.find(operations, metric, Key(1, VDA, READ)) in {p.stream for p in both}


def test_ten_thousand_cgroups_come_and_go_and_nothing_is_left_of_them(rig: Rig) -> None:
    keys = [Key(rig.host.cgroup(f"/pod{number}"), VDA, READ) for number in range(10_000)]
    for key in keys:
        rig.tier.add(key, 0.001)
    assert len(rig.collect()) == 10_000
    for number in range(10_000):
        rig.host.end_cgroup(f"/pod{number}") if number % 2 else None
    for _ in range(10_000 // 1024 + 2):
        left = rig.collect()
    assert len(left) == 5000
    assert sorted(rig.tier.forgotten) == sorted(keys[1::2])
    assert len(rig.streams._streams) == len(rig.streams._starts) == 5000
    assert rig.streams._kept == {}


_STEPS = st.lists(
    st.tuples(st.sampled_from(["work", "work", "restart", "collect", "replug"]), st.integers(0, 1)),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=_STEPS)
def test_no_stream_ever_shrinks_and_all_that_was_counted_is_told(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Whatever comes and goes: of one stream and one start, each bucket only grows.

    What is told of streams that ended, and of those that live, is all that was ever counted.
    """
    rig = Rig(tmp_path_factory.mktemp("host"))
    ids = [rig.host.cgroup(f"/{n}") for n in range(2)]
    worked, sequence = 0, 1
    latest: dict[tuple[Stream, int], Histogram] = {}
    for what, which in [*steps, ("collect", 0)]:
        if what == "work":
            rig.tier.add(Key(ids[which], VDA, READ), 0.001)
            worked += 1
        elif what == "restart":
            rig.host.end_cgroup(f"/{which}")
            ids[which] = rig.host.cgroup(f"/{which}")
        elif what == "replug":
            sequence += 1
            rig.host.disk("vda", VDA, sequence)
        else:
            for found, point in rig.collect().items():
                assert isinstance(point.total, Histogram)
                before = latest.get((found, point.start_ns), point.total)
                assert all(a <= b for a, b in zip(before.buckets, point.total.buckets, strict=True))
                latest[found, point.start_ns] = point.total
    assert sum(sum(total.buckets) for total in latest.values()) == worked
