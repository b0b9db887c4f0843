"""The identities, under a model of the kernel that does in any order what a kernel can do.

The model counts as mm/oom_kill.c does: the kill in vmstat and in the victim's cgroup first, the
mark after it, a group kill's first victim once or twice. The records that it writes go through
the real assembler. Whatever happens, no kill may be told twice, and none may stay untold.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable

import pytest
from doubles import oom_ring
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom.bpf import events
from otel_oom.bpf.events import OomMarkFlag, OomMemcgFlag
from otel_oom.receivers.oom import cgroups, reconcile, records
from otel_oom.receivers.oom.encode import Missed

CGROUPS = (11, 12, 13)
HAS = OomMarkFlag
ALIVE = int(oom_ring.base().flags & ~(HAS.KILLED | HAS.KILLED_KNOWN))


class Kernel:
    """Counters, cgroups and a ring; also the `Hierarchy` that is read."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.vmstat = 0
        self.own = dict.fromkeys(CGROUPS, 0)
        self.gone: set[int] = set()
        self.counters = events.OomCounters(*[0] * len(events.OomCounters._fields))
        self.ring: list[bytes] = []
        self.true_kills = 0
        self.unused_allowances = 0
        self.is_attached = False
        self.while_reading: Callable[[], None] | None = None
        self._pids = itertools.count(1000)
        self._decisions = itertools.count(1)

    def counts(self) -> dict[int, cgroups.Count]:
        self._interfere()
        there = ((inode, count) for inode, count in self.own.items() if inode not in self.gone)
        return {inode: cgroups.Count(f"/c{inode}", count) for inode, count in there if count}

    def own_kills(self, path: str, inode: int) -> int | None:
        self._interfere()
        assert path == f"/c{inode}"
        return None if inode in self.gone else self.own[inode]

    def kill(self, cgroup: int, *, lost: bool = False) -> None:
        self.count_kill(cgroup)
        self.mark_kill(cgroup, lost=lost)

    def count_kill(self, cgroup: int) -> None:
        self.true_kills += 1
        self._counted(cgroup)

    def mark_kill(
        self, cgroup: int, *, lost: bool = False, group: bool = False, of: int = 0
    ) -> None:
        known = ALIVE | HAS.KILLED | HAS.KILLED_KNOWN | HAS.HAS_DECISION
        self._mark(cgroup, known, lost=lost, group=group, of=of or next(self._decisions))

    def group_kill(self, cgroup: int, members: int, *, twice: bool, lost: tuple[bool, ...]) -> None:
        """memory.oom.group: the first of `members` counts twice, if it still has its memory."""
        of = next(self._decisions)
        if self.is_attached:
            self.unused_allowances += not twice
            self.unused_allowances += any(lost[:members])  # it may look like more than one group
        for member in range(members):
            self.count_kill(cgroup)
            if twice and not member:
                self._counted(cgroup)
            self.mark_kill(cgroup, lost=lost[member], group=True, of=of)

    def already_dying(self, cgroup: int, *, lost: bool = False) -> None:
        self._count(already_dying=1)
        self._mark(cgroup, ALIVE | HAS.KILLED_KNOWN, lost=lost)

    def repeat(self) -> None:
        self._count(marks=1, repeats=1)

    def interfering(self, cgroup: int) -> None:
        """A kill while the counters are read, one after the other."""
        self.while_reading = lambda: self.kill(cgroup)

    def _interfere(self) -> None:
        act, self.while_reading = self.while_reading, None
        if act:
            act()

    def _counted(self, cgroup: int) -> None:
        self.vmstat += 1
        self.own[cgroup] += 1

    def _count(self, **more: int) -> None:
        if self.is_attached:
            had = self.counters._asdict()
            self.counters = self.counters._replace(**{k: had[k] + n for k, n in more.items()})

    def _mark(
        self, cgroup: int, flags: int, *, lost: bool = False, group: bool = False, of: int = 0
    ) -> None:
        if not self.is_attached:
            return
        self._count(marks=1, lost_marks=lost)
        pid = next(self._pids)
        if lost:
            if self.version == cgroups.V2:
                self.unused_allowances += 1  # for all that is known it was a group's first
            return
        memcg = {
            "id": cgroup,
            "level": 1,
            "flags": OomMemcgFlag.GROUP * group,
            "local_oom_kills": self.own[cgroup],
        }
        mark = oom_ring.mark(
            [f"c{cgroup}"], [], int(flags), tgid=pid, pid=pid, decision=of, **oom_ring.memcgs(memcg)
        )
        self.ring += [mark, oom_ring.exited(tgid=pid)]


class Agent:
    """The assembler and the books of one run, driven as the receiver drives them."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        base = kernel.vmstat, kernel.counts()
        kernel.is_attached = True
        kernel.counters = events.OomCounters(*[0] * len(events.OomCounters._fields))
        kernel.ring.clear()
        self.base = base
        self.books = reconcile.Reconciler(kernel, *base, 0)  # type: ignore[arg-type]
        self.assembler = oom_ring.assembler()
        self.told_kills = 0
        self.by_cgroup: dict[str, int] = {}
        self.missed: list[Missed] = []
        self.had_one_in_progress = False
        self.kept = self.saved(), 0

    @property
    def told(self) -> int:
        return self.told_kills + sum(each.count for each in self.missed)

    def drain(self) -> None:
        for raw in self.kernel.ring:
            self.assembler.take(records.decode(raw), 0.0)
        self.kernel.ring.clear()

    def report(self, *, flush: bool = False) -> None:
        for kill in self.assembler.ready(100.0, flush=flush)[0]:
            self.books.add(kill)
            self.told_kills += kill.is_killed
            path = records.path_text(kill.mark.victim_path)
            self.by_cgroup[path] = self.by_cgroup.get(path, 0) + kill.is_killed

    def check(self, in_between: int | None = None, in_progress: int | None = None) -> None:
        """One look. `in_progress`: a kill that is counted before it and marked after it."""
        kernel = self.kernel
        if in_progress is not None and not self.had_one_in_progress:
            kernel.count_kill(in_progress)
        vmstat = kernel.vmstat
        if in_between is not None:
            kernel.kill(in_between)
        is_quiet = not kernel.ring and self.assembler.next_s() is None
        verdict = self.books.check(
            kernel.counters, self.assembler.tally, vmstat, 0, is_quiet=is_quiet
        )
        if in_progress is not None and not self.had_one_in_progress:
            kernel.mark_kill(in_progress)
        self.had_one_in_progress = in_progress is not None and not self.had_one_in_progress
        self._take(verdict)

    def stop(self, before: int | None = None, after: int | None = None) -> None:
        """The end. A kill may come just before the probes are detached, or just after."""
        kernel = self.kernel
        vmstat = kernel.vmstat
        if before is not None:
            kernel.kill(before)
        kernel.is_attached = False
        if after is not None:
            kernel.count_kill(after)
        counted = vmstat, kernel.vmstat
        self.drain()
        self.report(flush=True)
        self._take(self.books.close(kernel.counters, self.assembler.tally, counted, 0))

    def saved(self) -> reconcile.Saved:
        return self.books.saved("boot", 0)

    def _take(self, verdict: reconcile.Verdict) -> None:
        assert verdict.surplus == 0, verdict
        assert verdict.own_difference == 0, verdict
        assert len({(m.reason, m.cgroup) for m in verdict.missed}) == len(verdict.missed)
        self.missed += verdict.missed
        for each in verdict.missed:
            assert each.count > 0
            if each.cgroup is not None:
                self.by_cgroup[each.cgroup] = self.by_cgroup.get(each.cgroup, 0) + each.count
        self._attribution_is_possible()
        self.kept = self.saved(), self.told

    def _attribution_is_possible(self) -> None:
        for path, told in self.by_cgroup.items():
            inode = int(path.removeprefix("/c"))
            before = self.base[1].get(inode, cgroups.Count(path, 0)).kills
            assert told <= self.kernel.own[inode] - before


Step = Callable[[Kernel, Agent], None]
MAYBE = st.one_of(st.none(), st.sampled_from(CGROUPS))


def steps(*, groups: bool) -> st.SearchStrategy[Step]:
    """One thing that happens."""
    cgroup, boolean = st.sampled_from(CGROUPS), st.booleans()
    choices: list[st.SearchStrategy[Step]] = [
        st.builds(lambda c, lost: lambda k, _: k.kill(c, lost=lost), cgroup, boolean),
        st.builds(lambda c: lambda k, _: k.kill(c), cgroup),
        st.builds(lambda c: lambda k, _: k.count_kill(c), cgroup),  # not seen
        st.builds(lambda c, lost: lambda k, _: k.already_dying(c, lost=lost), cgroup, boolean),
        st.just(lambda k, _: k.repeat()),
        st.builds(lambda c: lambda k, _: k.interfering(c), cgroup),
        st.builds(lambda c: lambda k, _: k.gone.add(c), cgroup),
        st.just(lambda _, a: a.drain()),
        st.just(lambda _, a: a.report()),
        st.builds(lambda b, p: lambda _, a: a.check(b, p), MAYBE, MAYBE),
        st.just(lambda _, a: a.check()),
    ]
    if groups:
        choices.append(
            st.builds(
                lambda c, n, twice, lost: lambda k, _: k.group_kill(c, n, twice=twice, lost=lost),
                cgroup,
                st.integers(1, 4),
                boolean,
                st.tuples(boolean, boolean, boolean, boolean),
            )
        )
    return st.one_of(choices)


def settle(agent: Agent) -> None:
    """Two looks at a host on which nothing happens any more."""
    agent.kernel.while_reading = None
    agent.drain()
    agent.report()
    agent.check()
    agent.check()


@settings(max_examples=150, deadline=None)
@given(st.lists(steps(groups=False), max_size=30))
def test_without_group_kills_every_kill_is_told_once_within_two_checks(what: list[Step]) -> None:
    kernel = Kernel(cgroups.V1)
    agent = Agent(kernel)
    agent.check()
    for step in what:
        step(kernel, agent)
        assert agent.told <= kernel.true_kills
    settle(agent)
    assert agent.told == kernel.true_kills
    told = agent.told
    agent.check()
    assert agent.told == told


@settings(max_examples=150, deadline=None)
@given(st.lists(steps(groups=True), max_size=30))
def test_with_group_kills_it_is_never_more_and_lacks_what_the_kernel_blurs(
    what: list[Step],
) -> None:
    kernel = Kernel(cgroups.V2)
    agent = Agent(kernel)
    agent.check()
    for step in what:
        step(kernel, agent)
        assert agent.told <= kernel.true_kills
    settle(agent)
    assert kernel.true_kills - kernel.unused_allowances <= agent.told <= kernel.true_kills
    told = agent.told
    agent.check()
    assert agent.told == told


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(steps(groups=False), max_size=12),
            st.lists(st.sampled_from(CGROUPS), max_size=3),
            st.one_of(st.none(), st.tuples(MAYBE, MAYBE)),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_over_restarts_and_crashes_every_kill_is_told_once(
    runs: list[tuple[list[Step], list[int], tuple[int | None, int | None] | None]],
) -> None:
    """A crash forgets what was told since the books were kept; then it is told again, no more.

    A run: what happens, the kills while no agent runs after it, and how it stops, if it does.
    """
    kernel = Kernel(cgroups.V1)
    saved: reconcile.Saved | None = None
    told = 0
    for what, while_down, stop in runs:
        agent = Agent(kernel)
        if saved is not None:
            down = reconcile.since_last_run(saved, *agent.base)
            told += sum(each.count for each in down)
            assert all(each.reason == reconcile.AGENT_DOWN for each in down)
        assert told == agent.base[0]
        agent.check()
        for step in what:
            step(kernel, agent)
        kernel.while_reading = None
        if stop is not None:
            agent.stop(*stop)
            assert told + agent.told <= kernel.true_kills
        saved, kept = agent.kept
        told += kept
        kernel.is_attached = False
        for cgroup in while_down:
            kernel.count_kill(cgroup)
    last = reconcile.since_last_run(saved, kernel.vmstat, kernel.counts())
    assert told + sum(each.count for each in last) == kernel.true_kills


def quiet_agent(version: int = cgroups.V2) -> tuple[Kernel, Agent]:
    kernel = Kernel(version)
    agent = Agent(kernel)
    agent.check()
    return kernel, agent


def test_a_kill_that_only_the_kernel_saw_is_told_with_its_cgroup() -> None:
    kernel, agent = quiet_agent()
    kernel.count_kill(12)
    agent.check()
    assert agent.missed == []
    agent.check()
    (missed,) = agent.missed
    assert (missed.count, missed.reason, missed.cgroup) == (1, reconcile.NOT_SEEN, "/c12")
    assert missed.kill_count == 1


def test_a_kill_lost_in_the_ring_is_told_as_that() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11, lost=True)
    kernel.kill(11)
    settle(agent)
    (missed,) = agent.missed
    assert (missed.count, missed.reason, missed.cgroup) == (1, reconcile.RING_OVERFLOW, "/c11")
    assert agent.told == 2


def test_a_lost_mark_of_a_dying_process_is_no_missed_kill() -> None:
    kernel, agent = quiet_agent()
    kernel.already_dying(11, lost=True)
    settle(agent)
    assert agent.missed == []


def test_a_group_kill_that_counts_twice_is_no_difference() -> None:
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 3, twice=True, lost=(False,) * 3)
    settle(agent)
    assert (agent.told, agent.missed) == (3, [])


def test_a_kill_that_hides_behind_a_group_kill_is_found_by_its_cgroup() -> None:
    """The host's sum alone would take it for the first victim's second count."""
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 2, twice=False, lost=(False,) * 2)
    kernel.kill(12)
    kernel.count_kill(12)
    settle(agent)
    agent.check()
    (missed,) = agent.missed
    assert (missed.count, missed.reason, missed.cgroup) == (1, reconcile.NOT_SEEN, "/c12")
    assert agent.told == kernel.true_kills == 4


def test_a_cgroup_whose_group_kill_is_explained_has_no_allowance_left() -> None:
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 2, twice=False, lost=(False,) * 2)
    settle(agent)
    agent.check()
    kernel.count_kill(11)
    kernel.kill(11)
    settle(agent)
    agent.check()
    assert agent.told == kernel.true_kills == 4


def test_missed_kills_wait_for_the_books_to_be_quiet_but_not_for_ever() -> None:
    """A kill on its way makes its cgroup look as if it had one too many."""
    kernel, agent = quiet_agent(cgroups.V1)
    kernel.count_kill(12)
    agent.check()
    for _ in range(reconcile._PATIENCE_CHECKS):
        kernel.kill(11)
        agent.check()
        assert agent.missed == []
    kernel.kill(11)
    agent.check()
    (missed,) = agent.missed
    assert (missed.count, missed.cgroup) == (1, None)
    settle(agent)
    assert agent.told == kernel.true_kills


def test_kills_around_the_stop_are_told_by_it_or_by_the_next_start_but_once() -> None:
    kernel, agent = quiet_agent()
    kernel.count_kill(12)
    agent.stop(before=11, after=13)
    down = reconcile.since_last_run(agent.saved(), kernel.vmstat, kernel.counts())
    assert agent.told_kills == 1
    assert agent.told + sum(each.count for each in down) == kernel.true_kills == 3
    assert {each.reason for each in down} == {reconcile.AGENT_DOWN}


def test_a_kill_that_nobody_saw_is_told_at_the_stop_though_no_check_saw_it_twice() -> None:
    kernel, agent = quiet_agent()
    kernel.count_kill(12)
    agent.stop()
    assert [(m.count, m.cgroup, m.reason) for m in agent.missed] == [(1, "/c12", "not_seen")]


def test_what_is_not_reported_yet_is_not_saved_as_told() -> None:
    """An agent that is killed with a kill in its hands has not told it."""
    kernel, agent = quiet_agent()
    kernel.kill(11)
    agent.check()
    agent.drain()
    agent.check()
    saved = agent.saved()
    down = reconcile.since_last_run(saved, kernel.vmstat, kernel.counts())
    assert [(m.count, m.cgroup) for m in down] == [(1, "/c11")]
    agent.report()
    agent.check()
    assert reconcile.since_last_run(agent.saved(), kernel.vmstat, kernel.counts()) == []


def test_a_group_kill_told_by_the_last_run_takes_no_blame_for_one_in_another_cgroup() -> None:
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 3, twice=True, lost=(False,) * 3)
    settle(agent)
    agent.stop()
    kernel.count_kill(13)
    down = reconcile.since_last_run(agent.saved(), kernel.vmstat, kernel.counts())
    assert [(m.count, m.cgroup) for m in down] == [(1, "/c13")]


def test_more_victims_than_marks_is_a_bug_of_ours_once_two_checks_see_it() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11)
    agent.drain()
    agent.report()
    kernel.counters = kernel.counters._replace(marks=0)
    tally = agent.assembler.tally
    first = agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    second = agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    assert (first.own_difference, second.own_difference) == (0, 1)


def test_more_marks_than_the_kernel_counted_is_a_bug_of_ours() -> None:
    kernel, agent = quiet_agent()
    kernel.mark_kill(11)
    agent.drain()
    agent.report()
    tally = agent.assembler.tally
    agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    second = agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    assert second.surplus == 1


def test_marks_of_which_nothing_told_whether_they_were_kills_are_no_surplus() -> None:
    kernel, agent = quiet_agent()
    kernel.mark_kill(11)
    kernel.counters = kernel.counters._replace(unknown=1)
    agent.drain()
    agent.report()
    tally = agent.assembler.tally
    agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    assert agent.books.check(kernel.counters, tally, kernel.vmstat, 0).surplus == 0


def test_the_summary_line_has_the_terms() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11)
    kernel.already_dying(11)
    kernel.repeat()
    settle(agent)
    sums = agent.books.sums(kernel.counters, agent.assembler.tally, kernel.vmstat)
    assert sums.line() == (
        "victims 2 + lost in the ring 0 = marks 3 - repeated 1; kernel's kills 1 in [1, 1] "
        "(already dying 1, group kills 0)"
    )


@pytest.fixture
def proc(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc/vmstat"


def test_vmstat_is_read_anew_and_has_no_kills_where_the_kernel_counts_none(
    proc: pathlib.Path,
) -> None:
    proc.write_text("nr_free_pages 1\noom_kill 7\nnuma_hit 2\n")
    vmstat = reconcile.Vmstat(proc.parent.parent)
    assert vmstat.kills() == 7
    proc.write_text("nr_free_pages 1\nnot_oom_kill 9\n")
    assert vmstat.kills() == 0
    vmstat.close()


def test_vmstat_of_this_machine_is_a_number() -> None:
    vmstat = reconcile.Vmstat(pathlib.Path("/"))
    said = [
        line
        for line in pathlib.Path("/proc/vmstat").read_text().splitlines()
        if line.startswith("oom_kill ")
    ]
    assert vmstat.kills() >= int(said[0].split()[1]) if said else vmstat.kills() == 0
    vmstat.close()


def test_a_saved_state_survives_its_way_through_a_dictionary() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11)
    settle(agent)
    saved = agent.saved()
    assert dataclasses.asdict(saved) == {
        "boot_id": "boot",
        "kills": 1,
        "cgroups": {11: 1},
        "saved_unix_ns": 0,
    }
