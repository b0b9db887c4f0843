"""Whose limit was hit, and what was short: from the best evidence that the kernel gave.

1. `oom_control`, where oom_kill_process could be hooked: the kernel's own answer.
2. The OOM lock of cgroup v1's code, which the kernel holds on the subtree of the memcg whose
   limit was hit while it decides (mm/memcontrol-v1.c, mem_cgroup_oom_trylock): its root is
   the owner. Kernels with CONFIG_MEMCG_V1 do so for both versions of cgroups. Another OOM
   may hold such a lock while it waits for its turn, so the trigger must be in that subtree.
3. If no memcg above the victim has a limit, none can have been hit: the host was short.
Otherwise it is not known, and we say so.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

from otel_oom.bpf.events import OomMarkFlag, OomMemcg, OomMemcgFlag
from otel_oom.receivers.oom.records import Mark, path_text

CONSTRAINTS = ("none", "cpuset", "memory_policy", "memcg")
"""The kernel's enum oom_constraint, by value (include/linux/oom.h)."""

_HAS_DECISION = OomMarkFlag.HAS_DECISION.value
_PATH_CUT = OomMarkFlag.PATH_CUT.value
_PATHS_CUT = (OomMarkFlag.PATH_CUT | OomMarkFlag.TRIGGER_PATH_CUT).value
_LOCKED = OomMemcgFlag.LOCKED.value
"""Plain ints: an enum's `&` and attributes were half of what a verdict takes."""

_NO_HOOK = "oom_kill_process cannot be hooked on this kernel"
_NO_DECISION = "oom_kill_process was not seen: the kernel may mark who is dying without it"


class Limit(NamedTuple):
    """The verdict. `owner` is None for the host and for unknown; `reason` says why unknown."""

    constraint: str = ""
    owner: OomMemcg | None = None
    reason: str = ""
    constraint_reason: str = ""


def find(mark: Mark, *, unlimited_pages: int, memory_nodes: int) -> Limit:
    """The verdict on a mark.

    `unlimited_pages` is what page_counter.max holds without a limit, `memory_nodes` the number
    of NUMA nodes with memory: with one, neither a cpuset nor a policy can be short alone.
    """
    if mark.raw.flags & _HAS_DECISION:
        return _decided(mark)
    if not mark.memcgs:
        return Limit(
            reason="the kernel gave no memory cgroup", constraint_reason=why_undecided(mark)
        )
    locked = [memcg for memcg in mark.memcgs if memcg.flags & _LOCKED]
    if locked and _trigger_is_under(mark, locked[-1]):
        return Limit("memcg", locked[-1])
    if all(memcg.max_pages >= unlimited_pages for memcg in mark.memcgs):
        return _host(mark, memory_nodes)
    reason = f"{why_undecided(mark)}, and nothing else tells which limit it was"
    return Limit(reason=reason, constraint_reason=reason)


def why_undecided(mark: Mark) -> str:
    """Why a mark came without `oom_control`; a kill always has a decision (mm/oom_kill.c)."""
    return _NO_DECISION if mark.was_dying else _NO_HOOK


def owner_path(mark: Mark, found: Limit) -> str | None:
    """Path of the limit's cgroup: the victim's, up to the owner's level; None if unknown."""
    owner, path = found.owner, mark.victim_path
    if owner is None:
        return None
    if mark.raw.flags & _PATH_CUT:
        path = path[: len(path) - (mark.memcgs[0].level - owner.level)]
    return path_text(path[: owner.level])


def unlimited_pages(page_bytes: int) -> int:
    """PAGE_COUNTER_MAX of a 64-bit kernel (include/linux/page_counter.h)."""
    return (2**63 - 1) // page_bytes


def memory_nodes(root: pathlib.Path = pathlib.Path("/")) -> int:
    """NUMA nodes with memory; 1 where the kernel knows no others."""
    try:
        text = (root / "sys/devices/system/node/has_memory").read_text()
    except OSError:
        return 1
    spans = [span.partition("-") for span in text.strip().split(",") if span]
    return sum(int(last or first) - int(first) + 1 for first, _, last in spans) or 1


def _trigger_is_under(mark: Mark, memcg: OomMemcg) -> bool:
    if mark.trigger_is_victim:
        return True
    if mark.raw.flags & _PATHS_CUT:
        return False  # their roots' ends are missing
    return mark.trigger_path[: memcg.level] == mark.victim_path[: memcg.level]


def _host(mark: Mark, nodes: int) -> Limit:
    if nodes == 1:
        return Limit("none")
    return Limit(
        constraint_reason=f"{why_undecided(mark)}; none, cpuset and memory_policy look the same"
    )


def _decided(mark: Mark) -> Limit:
    number = mark.raw.decision_constraint
    constraint = CONSTRAINTS[number] if number < len(CONSTRAINTS) else f"unknown_{number}"
    if not mark.raw.decision_memcg_id:
        return Limit(constraint)
    for memcg in mark.memcgs:
        if memcg.id == mark.raw.decision_memcg_id:
            return Limit(constraint, memcg)
    return Limit(
        constraint, reason=f"it is more than {len(mark.memcgs)} levels above the victim's cgroup"
    )
