"""A model of the kernel that does in any order what a kernel can do, and the books held to it.

The model counts as mm/oom_kill.c does: the kill in vmstat and in the victim's cgroup first, the
mark after it, a group kill's first victim once or twice. The records that it writes go through
the real assembler, and what that makes into the real books.

    kernel, agent = oom_kernel.quiet_agent()
    kernel.count_kill(12)
    oom_kernel.settle(agent)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from doubles import oom_ring

from otel_oom.bpf import events
from otel_oom.bpf.events import OomMarkFlag, OomMemcgFlag
from otel_oom.receivers.oom import cgroups, reconcile, records
from otel_oom.receivers.oom.missed import Missed

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


def quiet_agent(version: int = cgroups.V2) -> tuple[Kernel, Agent]:
    """A host on which nothing has happened yet, and an agent that had its first look at it."""
    kernel = Kernel(version)
    agent = Agent(kernel)
    agent.check()
    return kernel, agent


def settle(agent: Agent) -> None:
    """Two looks at a host on which nothing happens any more."""
    agent.kernel.while_reading = None
    agent.drain()
    agent.report()
    agent.check()
    agent.check()
