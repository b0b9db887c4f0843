"""The books of kills that the kernel's log told of, held against a model of its counters."""

from __future__ import annotations

import pytest
from doubles import oom_kernel

from otel_oom.bpf import events
from otel_oom.receivers.oom import cgroups, reconcile
from otel_oom.receivers.oom.kills import Tally

NOTHING = events.OomCounters(*[0] * len(events.OomCounters._fields))


class Books:
    """Books of the mode `kmsg`, and what they found missing."""

    def __init__(self) -> None:
        self.kernel = oom_kernel.Kernel(cgroups.V2)
        self.books = reconcile.Reconciler(self.kernel, 0, {}, 0)  # type: ignore[arg-type]
        self.lines = self.repeats = 0
        self.missed: list[tuple[str | None, int]] = []

    def told(self, cgroup: int | None) -> None:
        self.lines += 1
        self.books.add_logged(cgroup, f"/c{cgroup}")

    def told_again(self, cgroup: int | None) -> None:
        self.repeats += 1
        self.books.add_repeat(cgroup)

    def check(self) -> None:
        counters = NOTHING._replace(marks=self.lines + self.repeats, repeats=self.repeats)
        tally = Tally(distinct=self.lines, groups=self.repeats)
        for _ in range(4):
            verdict = self.books.check(counters, tally, self.kernel.vmstat, 0)
            self.missed += [(each.cgroup, each.count) for each in verdict.missed]
            assert (verdict.surplus, verdict.own_difference) == (0, 0)
        assert not verdict.is_pending


@pytest.mark.parametrize("cgroup", [11, None], ids=["its cgroup is known", "and is not"])
def test_a_victim_that_counts_twice_is_missed_by_nobody(cgroup: int | None) -> None:
    """memory.oom.group: the chosen one and a member, and the chosen one once more."""
    at = Books()
    for line in (at.told, at.told, at.told_again):
        at.kernel.count_kill(11)
        line(cgroup)
    at.check()
    assert at.missed == []


def test_a_kill_that_was_told_without_its_cgroup_is_not_found_again_in_it() -> None:
    """Another's kill is missing: nobody knows which of the two the cgroup's counter is of."""
    at = Books()
    at.kernel.count_kill(11)
    at.told(None)
    at.kernel.count_kill(12)
    at.check()
    assert at.missed == [(None, 1)]


def test_once_all_is_told_the_next_missing_kill_has_its_cgroup_again() -> None:
    at = Books()
    at.kernel.count_kill(11)
    at.told(None)
    at.check()
    at.books.settle(lambda: True)
    at.kernel.count_kill(12)
    at.check()
    assert at.missed == [("/c12", 1)]


def test_the_next_run_does_not_find_it_either() -> None:
    at = Books()
    at.kernel.count_kill(11)
    at.told(None)
    at.kernel.count_kill(12)
    saved = at.books.saved("boot", 0)
    missed = reconcile.since_last_run(saved, at.kernel.vmstat, at.kernel.counts())
    assert [(each.cgroup, each.count) for each in missed] == [(None, 1)]
