"""Which kills are of one decision of the kernel.

A decision kills one process, or with memory.oom.group all of a cgroup, whose marks then come one
after the other.
"""

from __future__ import annotations

import dataclasses
import itertools

from otel_oom.bpf.events import OomMemcg, OomMemcgFlag
from otel_oom.receivers.oom.limit import Limit
from otel_oom.receivers.oom.records import Mark

_GROUP = OomMemcgFlag.GROUP.value
"""A plain int: an enum's `&` takes ten times as long."""


@dataclasses.dataclass(slots=True)
class Episode:
    """One decision of the kernel. `kills` grows while its members are marked."""

    number: int
    key: tuple[int, ...]
    first_boot_ns: int
    is_group: bool
    kills: int = 0
    last_mark_s: float = 0.0


class Episodes:
    """Gives each mark its episode; marks come in the ring's order. `groups` counts group kills."""

    def __init__(self) -> None:
        self.groups = 0
        self._numbers = itertools.count(1)
        self._last: Episode | None = None

    def of(self, mark: Mark, limit: Limit) -> Episode:
        """The episode of the next mark."""
        group = group_memcg(mark, limit)
        key = _episode_key(mark, group.id if group else 0, group.group_kills if group else 0)
        last = self._last
        if last and group and _continues(last.key, key):
            last.key = key
            return last
        self._last = Episode(next(self._numbers), key, mark.raw.boot_ns, group is not None)
        self.groups += group is not None
        return self._last


def group_memcg(mark: Mark, limit: Limit) -> OomMemcg | None:
    """The memcg that memory.oom.group kills as one; None if the kill was of one process.

    It is the highest that has the flag, up to the limit's owner (mm/memcontrol.c,
    mem_cgroup_get_oom_group).
    """
    highest, owner_id = None, limit.owner.id if limit.owner is not None else None
    for memcg in mark.memcgs:
        if memcg.flags & _GROUP and memcg.level:
            highest = memcg
        if memcg.id == owner_id:
            break
    return highest


def _episode_key(mark: Mark, group_id: int, group_kills: int) -> tuple[int, ...]:
    return (mark.raw.decision, mark.raw.trigger_tid, group_id, group_kills)


def _continues(last: tuple[int, ...], key: tuple[int, ...]) -> bool:
    """Whether two marks in a row are of one group kill.

    With the hook they have one decision's number. Without, they have one trigger and group,
    whose count of group kills moves between the first mark and the second, and not after.
    """
    if last[0] or key[0]:
        return last[0] == key[0]
    return last[1:3] == key[1:3] and key[3] - last[3] in (0, 1)
