"""Holds what we reported against the kernel's own counters: nothing lost, and proven.

By the identities (`identities`), for the host and for each cgroup that had kills (`cgroup_books`).
Kills beyond the upper bound, which the kernel made without our seeing them, are reported from the
counters, with the cgroup whose own counter moved where that can be told. The counters move at
different instants, so only a difference that two checks in a row see is believed. V is to be read
before B: then a kill between the two readings is in B alone, which is no difference.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable

from otel_oom.bpf.events import OomCounters
from otel_oom.receivers.oom import cgroup_books, cgroups
from otel_oom.receivers.oom.identities import Sums
from otel_oom.receivers.oom.kills import Kill, Tally
from otel_oom.receivers.oom.missed import Missed
from otel_oom.receivers.oom.state import Saved

__all__ = [
    "AGENT_DOWN",
    "COUNTER_MODE",
    "LOG_OVERFLOW",
    "NOT_SEEN",
    "RING_OVERFLOW",
    "Reconciler",
    "Sums",
    "Verdict",
    "Vmstat",
    "since_last_run",
]

RING_OVERFLOW, NOT_SEEN, AGENT_DOWN = "ring_overflow", "not_seen", "agent_down"
LOG_OVERFLOW, COUNTER_MODE = "log_overflow", "counter_mode"


_Told = dict[tuple[str, str | None], Missed]
"""Missed kills by reason and cgroup."""

_PATIENCE_CHECKS = 2
"""How many checks a missed kill waits for the books to be quiet, to be told with its cgroup."""


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
        self.why_not_seen = NOT_SEEN
        """The reason of kills that the kernel counted and the mode did not see."""
        self._base_kills = base_kills
        self._has_groups = hierarchy.version != cgroups.V1
        self._cgroups = cgroup_books.CgroupBooks(hierarchy, base_cgroups)
        self._booked = 0
        self._reported_lost = 0
        self._reported_not_seen = 0
        self._doubles = 0
        self._waited = 0
        self._last: Sums | None = None
        self._last_own = 0
        self._quiet_ns = start_ns

    @property
    def told_from_counters(self) -> int:
        """Kills that were reported without a record of their own."""
        return self._reported_lost + self._reported_not_seen

    def add(self, kill: Kill) -> None:
        """Book a reported kill."""
        if kill.is_killed:
            self._booked += 1
            self._cgroups.add(kill)

    def add_logged(self, inode: int | None, path: str) -> None:
        """Book a kill that the kernel's log told of; without an inode its cgroup is not known."""
        self._booked += 1
        self._cgroups.add_one(inode, path, counts_twice=False)

    def add_repeat(self, inode: int | None) -> None:
        """The kernel counted a victim that was told before once more."""
        self._cgroups.add_repeat(inode)

    def settle(self, is_still: Callable[[], bool]) -> None:
        """Once the books are closed, cgroups whose kills were told without one are right, too.

        `is_still`: whether no kill has been counted since they were.
        """
        self._cgroups.settle(is_still)

    def check(
        self,
        counters: OomCounters,
        tally: Tally,
        kernel_kills: int,
        now_ns: int,
        *,
        is_quiet: bool = True,
    ) -> Verdict:
        """Compare; `kernel_kills` is /proc/vmstat's count, read before `counters`.

        While records are in the ring or wait to be reported (not `is_quiet`), our own books
        cannot close yet, nor can those of the cgroups.
        """
        sums = self.sums(counters, tally, kernel_kills, is_quiet=is_quiet)
        own = sums.own_difference if is_quiet else max(0, sums.own_difference)
        last, self._last = self._last, sums
        last_own, self._last_own = self._last_own, own
        if last is None:
            return Verdict(sums, is_pending=True)
        missed = self._missed(sums, last, is_quiet=is_quiet)
        room = sums.most_kills - sums.kills
        self._doubles = max(0, min(self._excess(sums), self._excess(last), room))
        if self._is_short(sums):
            self._cgroups.look_at_all()
        if not missed:
            self._quiet_ns = now_ns
        return Verdict(
            sums,
            tuple(missed.values()),
            surplus=max(0, last.least_kills - sums.kernel_kills),
            own_difference=_both(own, last_own),
            is_pending=self._is_short(sums) or self._cgroups.is_watching,
        )

    def close(
        self, counters: OomCounters, tally: Tally, kernel_kills: tuple[int, int], now_ns: int
    ) -> Verdict:
        """The last check, after detaching: nothing of ours moves, so one look is believed.

        `kernel_kills` is from before detaching and from after it. Between the two, the kills
        that were marked are ours; what else the kernel counted is the next run's to find.
        """
        before, after = kernel_kills
        doubles = self._doubles
        least = self._base_kills + self.sums(counters, tally, before).least_kills
        at_detaching = min(after, max(before, least))
        self._last = self.sums(counters, tally, at_detaching)
        self._last_own = self._last.own_difference
        self._cgroups.look()
        self._cgroups.look_at_all()
        verdict = self.check(counters, tally, at_detaching, now_ns)
        self._doubles = max(doubles, self._doubles)
        return verdict

    def sums(
        self, counters: OomCounters, tally: Tally, kernel_kills: int, *, is_quiet: bool = True
    ) -> Sums:
        """The identities' terms now."""
        return Sums.of(
            counters,
            tally,
            kernel_kills - self._base_kills,
            has_groups=self._has_groups,
            is_quiet=is_quiet,
        )

    def saved(self, boot_id: str, now_ns: int) -> Saved:
        """What the next start needs: the counters up to which all kills are reported."""
        told = self._booked + self.told_from_counters + self._doubles
        if self._last:  # a mark of which nothing told may have been no kill
            told = min(told, max(told - self._last.unknown, self._last.kernel_kills))
        return Saved(boot_id, self._base_kills + told, self._cgroups.saved(), now_ns)

    def _missed(self, sums: Sums, last: Sums, *, is_quiet: bool) -> _Told:
        """Missing kills that both looks see, booked as reported."""
        told: _Told = {}
        lost = max(0, min(sums.unrecorded, last.unrecorded) - self._reported_lost)
        not_seen = max(0, min(sums.not_seen, last.not_seen) - self._reported_not_seen)
        if (lost or not_seen) and not is_quiet and self._waited < _PATIENCE_CHECKS:
            self._waited += 1
            return told
        self._waited = 0
        self._reported_lost += lost
        self._reported_not_seen += not_seen
        reason = RING_OVERFLOW if sums.lost >= self._reported_lost else NOT_SEEN
        self._spread(told, reason, lost, is_quiet=is_quiet)
        self._spread(told, self.why_not_seen, not_seen, is_quiet=is_quiet)
        if is_quiet:
            for found, here in self._cgroups.check(max(0, self._excess(sums))):
                self._reported_not_seen += here
                self._tell(told, self.why_not_seen, found, here)
        return told

    def _spread(self, told: _Told, reason: str, count: int, *, is_quiet: bool) -> None:
        """Tell kills with the cgroups whose counters lack them, as far as that can be said."""
        if reason == RING_OVERFLOW and self._has_groups:
            self._cgroups.blur(count)
        if count and is_quiet:
            for found, here in self._cgroups.place(count):
                self._tell(told, reason, found, here)
        elif count:
            self._tell(told, reason, *self._cgroups.leave(count))

    def _tell(self, told: _Told, reason: str, found: cgroups.Count | None, count: int) -> None:
        path, kills = (found.path, found.kills) if found else (None, None)
        if before := told.get((reason, path)):
            count += before.count
        told[reason, path] = Missed(count, reason, self._quiet_ns, path, kills)

    def _excess(self, sums: Sums) -> int:
        """V beyond B - F and what was reported: victims that counted twice, or kills not seen."""
        return sums.kernel_kills - sums.kills - self._reported_not_seen

    def _is_short(self, sums: Sums) -> bool:
        """Whether kills seem to be missing that are not reported."""
        return sums.not_seen > self._reported_not_seen or sums.unrecorded > self._reported_lost


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
