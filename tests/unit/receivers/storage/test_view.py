"""The view sums what moved, survives its cgroups, and keeps a fixed room."""

from __future__ import annotations

import asyncio
import itertools
import pathlib
from types import SimpleNamespace

import pytest
from doubles.storage_tier import DEVICE, QUEUE, FakeTier, Host, counted

from otel_oom.receivers.storage import devices, slowest, streams, totals, view, workloads
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.histogram import Key

VDA, DM = 254 << 20, 253 << 20


class Rig:
    def __init__(self, root: pathlib.Path) -> None:
        self.host = Host(root)
        self.host.disk("vda", VDA)
        self.host.disk("dm-0", DM, stacked=True)
        self.tier = FakeTier()
        config = Config()
        self.cgroups = workloads.Workloads(root)
        disks = devices.Devices(root, config.devices)
        self.streams = streams.Streams(config, self.cgroups, disks, 0)

    def totals(self) -> totals.Totals:
        return totals.Totals([self.tier], self.streams)

    def rows(self, looking: totals.Totals) -> dict[str, dict[str, int]]:
        """Measured times of each kind by device, after a look."""
        looking.look([self.tier])
        return {
            row["device"]: {
                kind: each["zeros"] + sum(each["counts"]) for kind, each in row["times"].items()
            }
            for row in looking.rows()
        }


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Rig:
    return Rig(tmp_path)


def test_only_what_moved_since_the_first_look_is_summed_over_cgroups(rig: Rig) -> None:
    one, two = rig.host.cgroup("/a"), rig.host.cgroup("/b")
    rig.tier.add(Key(one, VDA, 0), 0.001, 0.002)
    looking = rig.totals()
    assert rig.rows(looking) == {}

    rig.tier.add(Key(one, VDA, 0), 0.003)
    rig.tier.add(Key(two, VDA, 0), 0.004, 0.0)

    assert rig.rows(looking) == {"vda": {"device": 3}}
    assert rig.rows(looking) == {"vda": {"device": 3}}


def test_a_cgroup_that_goes_takes_nothing_with_it(rig: Rig) -> None:
    inode = rig.host.cgroup("/a")
    looking = rig.totals()
    rig.tier.add(Key(inode, VDA, 0), 0.001, 0.002)
    rig.rows(looking)
    rig.tier.forget([Key(inode, VDA, 0)])
    assert rig.rows(looking) == {"vda": {"device": 2}}

    rig.tier.add(Key(inode, VDA, 0), 0.004)  # it comes again, from 0

    assert rig.rows(looking) == {"vda": {"device": 3}}


def test_a_series_that_began_again_between_two_looks_has_all_that_it_has(rig: Rig) -> None:
    key = Key(1, VDA, 0)
    rig.tier.add(key, 0.001, 0.001)
    looking = rig.totals()
    rig.tier.forget([key])
    rig.tier.add(key, 0.5)

    assert rig.rows(looking) == {"vda": {"device": 1}}


def test_a_device_that_stands_on_another_has_its_queue_only(rig: Rig) -> None:
    looking = rig.totals()
    rig.tier.add(Key(1, DM, 0), 0.001)
    rig.tier.add(Key(1, DM, 0), 0.001, metric=QUEUE)

    assert rig.rows(looking) == {"dm-0": {"queue": 1}}


def test_the_metrics_do_not_notice_that_somebody_looks(rig: Rig) -> None:
    """What is collected is the same, look or no look."""
    looking = rig.totals()
    for number in itertools.count(1):
        rig.tier.add(Key(1, VDA, 0), 0.001 * number)
        rig.rows(looking)
        (point,) = rig.streams.collect([rig.tier], number * 10**9)
        assert point.stream.metric is DEVICE
        assert point.total == counted(*(0.001 * each for each in range(1, number + 1)))
        if number == 5:
            break


def made_slow(duration_ns: int) -> SimpleNamespace:
    return SimpleNamespace(line=SimpleNamespace(times_ns=[1000, 1000 + duration_ns]))


def test_the_slowest_of_the_last_minute_are_kept_in_a_fixed_room() -> None:
    kept = slowest.Slowest()
    for now_s in range(200):
        kept.note([made_slow(now_s * 1000 + number) for number in range(100)], now_s)  # type: ignore[misc]

    found = kept.last_minute(199)

    assert [seen.duration_ns for seen in found] == [199_099 - number for number in range(16)]
    assert sum(len(part) for _, part in kept._parts) <= 7 * 16


def test_a_slow_one_stays_its_minute_and_no_longer() -> None:
    kept = slowest.Slowest()
    kept.note([made_slow(10**9)], 5)  # type: ignore[list-item]
    for now_s in range(6, 66):
        kept.note([made_slow(now_s)], now_s)  # type: ignore[list-item]

    assert kept.last_minute(65)[0].duration_ns == 10**9
    assert kept.last_minute(66)[0].duration_ns < 10**9


async def test_sums_are_given_up_when_nobody_looks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_PATIENCE_S", 0.01)
    tier = rig.tier
    tier.lost, tier.describe = (lambda: 3), (lambda: "made up")  # type: ignore[attr-defined]
    viewer = view.Viewer([tier], rig.streams, slowest.Slowest(), rig.cgroups.path, {})

    first = viewer.make()
    async with asyncio.timeout(10):
        while viewer._totals is not None:
            await asyncio.sleep(0.01)

    assert (first["lost"], first["tiers"]) == (3, {"block": "made up"})
    assert viewer.make()["since_ns"] > first["since_ns"]
    viewer.forget()


async def test_who_asks_too_often_is_told_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_LEAST_NS", 10**12)
    tier = rig.tier
    tier.lost, tier.describe = (lambda: 0), (lambda: "")  # type: ignore[attr-defined]
    viewer = view.Viewer([tier], rig.streams, slowest.Slowest(), rig.cgroups.path, {})
    first = viewer.make()
    tier.add(Key(1, VDA, 0), 0.001)
    again = viewer.make()
    monkeypatch.setattr(view, "_LEAST_NS", 0)
    later = viewer.make()
    viewer.forget()

    assert (again["rows"], again["now_ns"]) == ([], first["now_ns"])
    assert [row["device"] for row in later["rows"]] == ["vda"]
