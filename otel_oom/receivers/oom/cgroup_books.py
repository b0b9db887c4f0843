"""How many kills were told of each cgroup, held against the cgroup's own counter.

The host's sum alone leaves room: a group kill may count its first victim twice, and a kill that
nobody saw hides behind that. A cgroup's own counter tells the two apart. It is compared only
while no record is on its way, and with what it said at the check before, so that every kill it
had counted by then has been booked.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

from otel_oom.receivers.oom import cgroups
from otel_oom.receivers.oom.kills import PRIMARY, Kill


class CgroupBooks:
    """Kills told by cgroup (its inode). `base` was read before the probes were attached."""

    def __init__(self, hierarchy: cgroups.Hierarchy, base: dict[int, cgroups.Count]) -> None:
        self._hierarchy = hierarchy
        self._told = collections.Counter({inode: count.kills for inode, count in base.items()})
        self._allowance: collections.Counter[int] = collections.Counter()
        self._watched: dict[int, str] = {}
        self._before: dict[int, int] = {}
        self._all: dict[int, cgroups.Count] = {}
        self._unplaced = 0

    @property
    def is_watching(self) -> bool:
        """Whether a cgroup had kills and was not found right since."""
        return bool(self._watched)

    def add(self, kill: Kill) -> None:
        """Book a kill on its victim's cgroup."""
        memcgs, path = kill.mark.memcgs, "/" + "/".join(kill.mark.victim_path)
        counts_twice = kill.episode.is_group and kill.role == PRIMARY
        self.add_one(memcgs[0].id if memcgs else None, path, counts_twice=counts_twice)

    def add_one(self, inode: int | None, path: str, *, counts_twice: bool) -> None:
        """Book a kill on a cgroup; `counts_twice`: the kernel may have counted it twice."""
        if inode is None:
            self._unplaced += 1
            return
        self._told[inode] += 1
        self._watched[inode] = path
        self._allowance[inode] += counts_twice

    def add_repeat(self, inode: int | None) -> None:
        """A kill that was booked counts twice, in this cgroup or in one that is not known."""
        if inode is None:
            self._unplaced += 1
        else:
            self._allowance[inode] += 1

    def place(self, count: int) -> Iterator[tuple[cgroups.Count | None, int]]:
        """Book kills that have no record on the cgroups whose counters said more than was told.

        What no cgroup explains comes with None. So does all of it, if the counters say more than
        that because of kills that were told without a cgroup: nobody knows which is which.
        """
        lacking = {inode: self._lacking(inode, found) for inode, found in self._all.items()}
        if self._unplaced and sum(lacking.values()) > count:
            yield self.leave(count)
            return
        for inode, found in self._all.items():
            here = min(lacking[inode], count)
            if here > 0:
                self._told[inode] += here
                count -= here
                yield found, here
        if count:
            yield self.leave(count)

    def _lacking(self, inode: int, found: cgroups.Count) -> int:
        return max(0, found.kills - self._told[inode] - self._allowance[inode])

    def settle(self, is_still: Callable[[], bool]) -> None:
        """Every kill has been told: those without a cgroup are in what the counters say now.

        `is_still`: whether no kill has been counted since.
        """
        if not self._unplaced:
            return
        counts = self._hierarchy.counts()
        if not is_still():
            return
        for inode, found in counts.items():
            self._told[inode], self._allowance[inode] = found.kills, 0
        self._unplaced = 0

    def leave(self, count: int) -> tuple[None, int]:
        """Kills that are told without a cgroup; as many may be found in one later."""
        self._unplaced += count
        return None, count

    def blur(self, count: int) -> None:
        """Kills whose marks got lost: each may have counted twice, wherever that was."""
        self._unplaced += count

    def look_at_all(self) -> None:
        """Remember what every cgroup's counter says, for `place`."""
        self._all = self._hierarchy.counts()

    def look(self) -> None:
        """Remember what the counters of the watched cgroups say."""
        for inode, path in list(self._watched.items()):
            now = self._hierarchy.own_kills(path, inode)
            if now is not None:
                self._before[inode] = now
                continue
            self._forget(inode)
            if "\\" not in path:  # else it may be there, under a name that is no UTF-8
                del self._told[inode], self._allowance[inode]

    def check(self, room: int) -> Iterator[tuple[cgroups.Count, int]]:
        """Kills that a cgroup counted and nobody told, at most as many as the host's sum lacks.

        Only while no record is on its way. A cgroup whose counter stands still is right then.
        """
        before = dict(self._before)
        self.look()
        for inode, counted in before.items():
            path = self._watched.get(inode)
            if path is None:
                continue
            excess = max(0, counted - self._told[inode] - self._allowance[inode])
            here = min(self._untold(excess), room)
            room -= here
            if here:
                yield cgroups.Count(path, counted), here
            self._told[inode] += excess
            if self._before.get(inode) == counted:
                self._told[inode], self._allowance[inode] = counted, 0
                self._forget(inode)

    def saved(self) -> dict[int, int]:
        """What each cgroup's counter may say without a kill being untold.

        Kills that were told without a cgroup may be in any counter: then what all say now is taken
        as told, and whoever comes next tells what is missing without a cgroup, too.
        """
        told = self._told + self._allowance
        if self._unplaced:
            for inode, found in self._hierarchy.counts().items():
                told[inode] = max(told[inode], found.kills)
        return dict(told)

    def _untold(self, excess: int) -> int:
        """Take off what was told already without a cgroup."""
        known = min(excess, self._unplaced)
        self._unplaced -= known
        return excess - known

    def _forget(self, inode: int) -> None:
        self._watched.pop(inode, None)
        self._before.pop(inode, None)
