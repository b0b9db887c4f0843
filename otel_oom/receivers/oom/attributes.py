"""One kill's attributes, in the terms of `semconv`, and what is missing with its reason.

Nothing here guesses: a value that could not be had is left out and named in `oom.missing`.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator

from otel_oom import semconv
from otel_oom.bpf.events import OomMarkFlag, OomProcess
from otel_oom.pipeline.otlp import Value
from otel_oom.receivers.oom import records
from otel_oom.receivers.oom.context import Pressure
from otel_oom.receivers.oom.kills import PRIMARY, Kill
from otel_oom.receivers.oom.limit import unlimited_pages

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
UNLIMITED_PAGES = unlimited_pages(PAGE_BYTES)

_SIGNALLED = 0x7F
_STAT_LINES = {
    semconv.CGROUP_ANON: "anon",
    semconv.CGROUP_FILE: "file",
    semconv.CGROUP_SHMEM: "shmem",
    semconv.CGROUP_SLAB: "slab",
    semconv.CGROUP_KERNEL_STACK: "kernel_stack",
    semconv.CGROUP_PAGE_TABLES: "pagetables",
}

Attributes = dict[str, Value]


class Record:
    """The attributes of one kill, built in the order of the tables in docs/."""

    def __init__(
        self,
        kill: Kill,
        *,
        boot_to_unix_ns: int,
        episode_id: str,
        mode: str,
        command_args: bool = True,
    ) -> None:
        self.values: Attributes = {}
        self._missing: list[str] = []
        self._kill = kill
        self._boot_to_unix_ns = boot_to_unix_ns
        self._victim()
        if command_args:
            self._command_line()
        else:
            self._lacks(semconv.PROCESS_COMMAND_ARGS, "the option `command_args` is false")
        self._exit()
        self._memory()
        self._trigger()
        self._limit()
        self._cgroup()
        self._decision()
        self._episode(episode_id)
        self._pressure()
        self.values[semconv.PROCESSES] = list(processes(kill))
        self.values[semconv.CAPTURE_MODE] = mode
        if self._missing:
            self.values[semconv.MISSING] = list(self._missing)

    def _lacks(self, key: str, reason: str) -> None:
        self._missing.append(f"{key}: {reason}")

    def _victim(self) -> None:
        mark, values = self._kill.mark, self.values
        values[semconv.PROCESS_PID] = mark.raw.tgid
        if not mark.has(OomMarkFlag.HAS_VICTIM):
            self._lacks(
                "process.*", "this kernel's hook gives a pid alone, and the victim was gone"
            )
            return
        values[semconv.PROCESS_VPID] = mark.victim.vpid
        if mark.ancestors:
            values[semconv.PROCESS_PARENT_PID] = mark.ancestors[0].tgid
        values[semconv.PROCESS_EXECUTABLE_NAME] = records.text(mark.victim.comm)
        started_ns = mark.raw.start_boot_ns + self._boot_to_unix_ns
        values[semconv.PROCESS_CREATION_TIME] = iso_time(started_ns)
        values[semconv.PROCESS_USER_ID] = mark.raw.uid
        values[semconv.PROCESS_LINUX_CGROUP] = records.path_text(mark.victim_path)
        if mark.has(OomMarkFlag.PATH_CUT):
            self._lacks(semconv.PROCESS_LINUX_CGROUP, "longer than 4 KiB: its root end is cut")

    def _command_line(self) -> None:
        kill, key = self._kill, semconv.PROCESS_COMMAND_ARGS
        if kill.delivered and kill.delivered.args:
            self.values[key] = list(kill.delivered.args)
            if kill.delivered.is_cut:
                total = kill.delivered.args_total_bytes
                self._lacks(key, f"cut, the whole has {total} bytes")
        elif kill.context and kill.context.command_line:
            self.values[key] = list(records.arguments(kill.context.command_line))
        else:
            self._lacks(key, "the victim was gone before it could be read")

    def _exit(self) -> None:
        exited = self._kill.exited
        self.values[semconv.EXIT_CONFIRMED] = exited is not None
        if exited is None:
            self._lacks(semconv.PROCESS_EXIT_CODE, "the victim's exit was not seen in time")
            return
        self.values[semconv.PROCESS_EXIT_CODE] = exit_code(exited.exit_code)
        latency_ns = exited.boot_ns - self._kill.mark.raw.boot_ns
        self.values[semconv.EXIT_LATENCY] = latency_ns / 1e9

    def _memory(self) -> None:
        mark, values = self._kill.mark, self.values
        if not mark.has(OomMarkFlag.HAS_MM):
            self._lacks("oom.victim.memory.*", "the victim had let go of its memory")
            return
        raw = mark.raw
        values[semconv.VICTIM_ANON] = raw.anon_pages * PAGE_BYTES
        values[semconv.VICTIM_FILE] = raw.file_pages * PAGE_BYTES
        values[semconv.VICTIM_SHMEM] = raw.shmem_pages * PAGE_BYTES
        values[semconv.VICTIM_SWAP] = raw.swap_pages * PAGE_BYTES
        values[semconv.VICTIM_PAGE_TABLES] = raw.page_tables_bytes
        values[semconv.VICTIM_VIRTUAL] = raw.virtual_pages * PAGE_BYTES
        values[semconv.VICTIM_SCORE_ADJ] = raw.score_adj
        if mark.has(OomMarkFlag.AT_DELIVERY):
            self._lacks("oom.victim.memory.*", "as of the SIGKILL's delivery, not of the mark")

    def _trigger(self) -> None:
        mark, values = self._kill.mark, self.values
        if not mark.trigger.tgid and not mark.has(OomMarkFlag.TRIGGER_KTHREAD):
            self._lacks("oom.trigger.*", "the kernel's mark of this victim was not seen")
            return
        values[semconv.TRIGGER_PID] = mark.trigger.tgid
        values[semconv.TRIGGER_NAME] = records.text(mark.trigger.comm)
        path = mark.victim_path if mark.trigger_is_victim else mark.trigger_path
        values[semconv.TRIGGER_CGROUP] = records.path_text(path)
        if mark.has(OomMarkFlag.TRIGGER_PATH_CUT):
            self._lacks(semconv.TRIGGER_CGROUP, "longer than 4 KiB: its root end is cut")
        values[semconv.TRIGGER_IS_VICTIM] = mark.trigger_is_victim
        if mark.has(OomMarkFlag.TRIGGER_KTHREAD):
            values[semconv.TRIGGER_IS_KERNEL] = True

    def _limit(self) -> None:
        limit, values = self._kill.limit, self.values
        if limit.constraint:
            values[semconv.CONSTRAINT] = limit.constraint
        else:
            self._lacks(semconv.CONSTRAINT, limit.constraint_reason)
        if limit.owner is None:
            if limit.reason:
                self._lacks("oom.limit.*", limit.reason)
            return
        values[semconv.LIMIT_CGROUP] = limit_path(self._kill) or "/"
        values[semconv.LIMIT_BYTES] = limit.owner.max_pages * PAGE_BYTES
        values[semconv.LIMIT_USAGE] = limit.owner.usage_pages * PAGE_BYTES
        values[semconv.LIMIT_PEAK] = limit.owner.peak_pages * PAGE_BYTES

    def _cgroup(self) -> None:
        kill, values = self._kill, self.values
        if not kill.mark.memcgs:
            self._lacks("oom.cgroup.*", "the kernel gave no memory cgroup")
            return
        own = kill.mark.memcgs[0]
        values[semconv.CGROUP_USAGE] = own.usage_pages * PAGE_BYTES
        if own.max_pages < UNLIMITED_PAGES:
            values[semconv.CGROUP_LIMIT] = own.max_pages * PAGE_BYTES
        values[semconv.CGROUP_KILL_COUNT] = own.local_oom_kills
        self._cgroup_memory()

    def _cgroup_memory(self) -> None:
        context, exited = self._kill.context, self._kill.exited
        if context is None or (exited and exited.boot_ns < context.read_boot_ns):
            self._lacks("oom.cgroup.memory.*", "could not be read before the victim's exit")
            return
        absent = []
        for key, name in _STAT_LINES.items():
            if name in context.memory:
                self.values[key] = context.memory[name]
            else:
                absent.append(key.rpartition(".")[2])
        if absent:
            self._lacks(f"oom.cgroup.memory.{{{','.join(absent)}}}", context.memory_reason)

    def _decision(self) -> None:
        kill, values = self._kill, self.values
        if not kill.mark.has(OomMarkFlag.HAS_DECISION):
            reason = "oom_kill_process cannot be hooked on this kernel"
            self._lacks("oom.allocation.*", reason)
            self._lacks(semconv.VICTIM_SCORE, reason)
            return
        values[semconv.ALLOCATION_ORDER] = kill.mark.raw.decision_order
        values[semconv.ALLOCATION_GFP] = f"{kill.mark.raw.decision_gfp:#x}"
        if kill.role == PRIMARY:
            values[semconv.VICTIM_SCORE] = kill.mark.raw.decision_points

    def _episode(self, episode_id: str) -> None:
        kill, values = self._kill, self.values
        values[semconv.GROUP] = kill.episode.is_group
        values[semconv.EPISODE_ID] = episode_id
        values[semconv.EPISODE_ROLE] = kill.role
        values[semconv.EPISODE_KILLS] = kill.episode.kills

    def _pressure(self) -> None:
        context = self._kill.context
        none = Pressure(reason="was not read")
        own = context.cgroup_pressure if context else none
        host = context.host_pressure if context else none
        self._pressure_of("oom.psi.*", semconv.PSI_SOME, semconv.PSI_FULL, own)
        self._pressure_of("linux.psi.*", semconv.HOST_PSI_SOME, semconv.HOST_PSI_FULL, host)

    def _pressure_of(self, name: str, some: str, full: str, pressure: Pressure) -> None:
        if pressure.reason:
            self._lacks(name, pressure.reason)
        if pressure.some is not None:
            self.values[some] = pressure.some
        if pressure.full is not None:
            self.values[full] = pressure.full


def limit_path(kill: Kill) -> str | None:
    """Path of the limit's cgroup: the victim's, up to the owner's level; None if unknown."""
    owner, path = kill.limit.owner, kill.mark.victim_path
    if owner is None:
        return None
    if kill.mark.has(OomMarkFlag.PATH_CUT):
        above = kill.mark.memcgs[0].level - owner.level
        path = path[: len(path) - above]
    return records.path_text(path[: owner.level])


def processes(kill: Kill) -> Iterator[Attributes]:
    """The tree: victim, trigger, the ancestors of both, and others under the limit."""
    mark = kill.mark
    seen: set[int] = set()
    chains = [((mark.victim, *mark.ancestors), ("victim", "ancestor"))]
    if not mark.trigger_is_victim:
        trigger = (mark.trigger, *mark.trigger_ancestors)
        chains.append((trigger, ("trigger", "trigger_ancestor")))
    for chain, roles in chains:
        yield from _chain(chain, roles, seen)
    for sibling in kill.context.siblings if kill.context else ():
        if sibling.pid not in seen:
            yield {
                "pid": sibling.pid,
                "parent_pid": sibling.parent_pid,
                "name": sibling.name,
                "memory": sibling.memory,
                "role": "sibling",
            }


def _chain(
    chain: tuple[OomProcess, ...], roles: tuple[str, str], seen: set[int]
) -> Iterator[Attributes]:
    """A process and its ancestors; each one's parent is the next."""
    for index, process in enumerate(chain):
        if not process.tgid or process.tgid in seen:
            return
        seen.add(process.tgid)
        parent = chain[index + 1].tgid if index + 1 < len(chain) else 0
        yield {
            "pid": process.tgid,
            "parent_pid": parent,
            "name": records.text(process.comm),
            "memory": process.rss_pages * PAGE_BYTES,
            "role": roles[index > 0],
        }


def exit_code(status: int) -> int:
    """A wait(2) status as one number: 128 + signal, or what the process returned."""
    signal = status & _SIGNALLED
    return 128 + signal if signal else status >> 8 & 0xFF


def iso_time(unix_ns: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    when = dt.datetime.fromtimestamp(unix_ns / 1e9, dt.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
