"""Holds what we reported against the kernel's own counters: nothing lost, and proven.

With D = distinct victims reported, B = distinct marks counted in the kernel by our program,
F = marks without a kill, U = marks of which nothing told, V = the movement of `oom_kill` in
/proc/vmstat and G = group kills (whose first victim the kernel counts once or twice,
mm/oom_kill.c):

    D + lost in the ring = B                    our own way, exact
    B - F - U <= V <= B - F + G                 against the kernel

V above its bound: the kernel killed without our seeing it; the missing kills are reported from
the counters, with the cgroup whose own counter moved where that can be told. V below: a bug
of ours, an alarm. The same is asked of each cgroup that had kills. The counters move at
different instants, so only a difference that two checks in a row see is believed.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib

from otel_oom.bpf.events import OomCounters
from otel_oom.receivers.oom import cgroups
from otel_oom.receivers.oom.encode import Missed
from otel_oom.receivers.oom.kills import PRIMARY, Kill, Tally
from otel_oom.receivers.oom.state import Saved

RING_OVERFLOW, NOT_SEEN, AGENT_DOWN = "ring_overflow", "not_seen", "agent_down"


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """The identities' terms at one moment, all counted since the start."""

    reported: int
    marks: int
    repeats: int
    already_dying: int
    unknown: int
    lost: int
    group_kills: int
    kernel_kills: int

    @property
    def own_difference(self) -> int:
        """D + lost - B; 0 once the ring is drained."""
        return self.reported + self.lost - (self.marks - self.repeats)

    @property
    def least_kills(self) -> int:
        """B - F - U."""
        return self.marks - self.repeats - self.already_dying - self.unknown

    @property
    def most_kills(self) -> int:
        """B - F + G."""
        return self.marks - self.repeats - self.already_dying + self.group_kills

    @property
    def not_seen(self) -> int:
        """Kills that the kernel counted beyond what our marks explain."""
        return max(0, self.kernel_kills - self.most_kills)

    @property
    def surplus(self) -> int:
        """Kills that we have and the kernel did not count: a bug."""
        return max(0, self.least_kills - self.kernel_kills)

    def line(self) -> str:
        """The identities, for a person."""
        return (
            f"victims {self.reported} + lost in the ring {self.lost} = marks {self.marks} "
            f"- repeated {self.repeats}; kernel's kills {self.kernel_kills} in "
            f"[{self.least_kills}, {self.most_kills}] "
            f"(already dying {self.already_dying}, group kills {self.group_kills})"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: kills to report from the counters, and bugs to shout about."""

    sums: Sums
    missed: tuple[Missed, ...] = ()
    surplus: int = 0
    own_difference: int = 0
    is_pending: bool = False


class Vmstat:
    """`oom_kill` of /proc/vmstat; the file stays open, because it is read every second."""

    def __init__(self, root: pathlib.Path) -> None:
        self._fd = os.open(root / "proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)

    def kills(self) -> int:
        """OOM kills of the host since boot; 0 before v4.13, which does not count them."""
        text = os.pread(self._fd, 65536, 0)
        at = text.find(b"\noom_kill ")
        return int(text[at + 10 : text.find(b"\n", at + 10)]) if at >= 0 else 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Reconciler:
    """The books of one run. `base_*` were read before the probes were attached."""

    def __init__(
        self,
        hierarchy: cgroups.Hierarchy,
        base_kills: int,
        base_cgroups: dict[int, cgroups.Count],
        start_ns: int,
    ) -> None:
        self._hierarchy = hierarchy
        self._base_kills = base_kills
        self._accounted = collections.Counter(
            {inode: count.kills for inode, count in base_cgroups.items()}
        )
        self._allowance: collections.Counter[int] = collections.Counter()
        self._paths: dict[int, str] = {}
        self._reported_lost = 0
        self._reported_not_seen = 0
        self._last: Sums | None = None
        self._last_own = 0
        self._quiet_ns = start_ns

    def add(self, kill: Kill) -> None:
        """Book a reported kill on its cgroup."""
        if not kill.mark.memcgs or not kill.is_killed:
            return
        memcg = kill.mark.memcgs[0]
        self._accounted[memcg.id] += 1
        self._paths[memcg.id] = "/" + "/".join(kill.mark.victim_path)
        if kill.episode.is_group and kill.role == PRIMARY:
            self._allowance[memcg.id] += 1

    def check(
        self,
        counters: OomCounters,
        tally: Tally,
        kernel_kills: int,
        now_ns: int,
        *,
        is_drained: bool = True,
    ) -> Verdict:
        """Compare; `kernel_kills` is /proc/vmstat's count now.

        While the ring holds records (`not is_drained`) our own books cannot close yet.
        """
        sums = self.sums(counters, tally, kernel_kills)
        own = sums.own_difference if is_drained else 0
        last, self._last = self._last, sums
        last_own, self._last_own = self._last_own, own
        if last is None:
            return Verdict(sums, is_pending=True)
        lost = min(sums.lost, last.lost) - self._reported_lost
        not_seen = min(sums.not_seen, last.not_seen) - self._reported_not_seen
        missed: list[Missed] = []
        if lost > 0:
            self._reported_lost += lost
            missed += self._missed(lost, RING_OVERFLOW)
        not_seen -= max(0, self._reported_lost - sums.lost)
        if not_seen > 0:
            self._reported_not_seen += not_seen
            missed += self._missed(not_seen, NOT_SEEN)
        if not missed:
            self._quiet_ns = now_ns
        return Verdict(
            sums,
            tuple(missed),
            surplus=min(sums.surplus, last.surplus),
            own_difference=_both(own, last_own),
            is_pending=sums.not_seen > self._reported_not_seen or sums.lost > self._reported_lost,
        )

    def sums(self, counters: OomCounters, tally: Tally, kernel_kills: int) -> Sums:
        """The identities' terms now."""
        return Sums(
            reported=tally.distinct,
            marks=counters.marks,
            repeats=counters.repeats,
            already_dying=counters.already_dying,
            unknown=counters.unknown,
            lost=counters.lost_marks + tally.bad_marks,
            group_kills=tally.groups,
            kernel_kills=kernel_kills - self._base_kills,
        )

    def saved(self, boot_id: str, now_ns: int) -> Saved | None:
        """What the next start needs: the counters up to which all kills are reported."""
        if self._last is None:
            return None
        pending = self._last.not_seen - self._reported_not_seen
        kills = self._base_kills + self._last.kernel_kills - max(0, pending)
        return Saved(boot_id, kills, dict(self._accounted), now_ns)

    def book_since(self, counters: OomCounters) -> None:
        """At the stop: kills marked after the last check are reported, so they are known."""
        if self._last is not None:
            now = counters.marks - counters.repeats - counters.already_dying
            before = self._last.marks - self._last.repeats - self._last.already_dying
            self._last = dataclasses.replace(
                self._last, kernel_kills=self._last.kernel_kills + now - before
            )

    def _missed(self, count: int, reason: str) -> list[Missed]:
        """Spread missing kills over the cgroups whose own counters moved unaccounted."""
        missed = []
        for inode, found in self._hierarchy.counts().items():
            excess = found.kills - self._accounted[inode] - self._allowance[inode]
            here = min(excess, count)
            if here > 0:
                self._accounted[inode] += here
                count -= here
                missed.append(Missed(here, reason, self._quiet_ns, found.path, found.kills))
        if count:
            missed.append(Missed(count, reason, self._quiet_ns))
        return missed


def since_last_run(
    saved: Saved, base_kills: int, base_cgroups: dict[int, cgroups.Count]
) -> list[Missed]:
    """Kills of this boot that happened while no agent ran."""
    count = base_kills - saved.kills
    missed = []
    for inode, found in base_cgroups.items():
        here = min(found.kills - saved.cgroups.get(inode, 0), count)
        if here > 0:
            count -= here
            missed.append(Missed(here, AGENT_DOWN, saved.saved_unix_ns, found.path, found.kills))
    if count > 0:
        missed.append(Missed(count, AGENT_DOWN, saved.saved_unix_ns))
    return missed


def _both(one: int, other: int) -> int:
    """The smaller of two differences of one sign; 0 if the signs differ."""
    return min(one, other, key=abs) if one * other > 0 else 0
