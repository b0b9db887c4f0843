"""How many kills were told of each cgroup, held against the cgroup's own counter.

The host's sum alone leaves room: a group kill may count its first victim twice, and a kill that
nobody saw hides behind that. A cgroup's own counter tells the two apart. It is compared only
while no record is on its way, and with what it said at the check before, so that every kill it
had counted by then has been booked.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

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
        if not kill.mark.memcgs:
            self._unplaced += 1
            return
        inode = kill.mark.memcgs[0].id
        self._told[inode] += 1
        self._watched[inode] = "/" + "/".join(kill.mark.victim_path)
        if kill.episode.is_group and kill.role == PRIMARY:
            self._allowance[inode] += 1

    def place(self, count: int) -> Iterator[tuple[cgroups.Count | None, int]]:
        """Book kills that have no record on the cgroups whose counters said more than was told.

        What no cgroup explains comes with None.
        """
        for inode, found in self._all.items():
            here = min(found.kills - self._told[inode] - self._allowance[inode], count)
            if here > 0:
                self._told[inode] += here
                count -= here
                yield found, here
        if count:
            yield self.leave(count)

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
        """What each cgroup's counter may say without a kill being untold."""
        return dict(self._told + self._allowance)

    def _untold(self, excess: int) -> int:
        """Take off what was told already without a cgroup."""
        known = min(excess, self._unplaced)
        self._unplaced -= known
        return excess - known

    def _forget(self, inode: int) -> None:
        self._watched.pop(inode, None)
        self._before.pop(inode, None)
