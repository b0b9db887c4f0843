"""One kill's attributes, in the terms of `semconv`, and what is missing with its reason.

Nothing here guesses: a value that could not be had is left out and named in `oom.missing`.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Iterator
from typing import Any

from otel_oom import semconv
from otel_oom.bpf.events import OomMarkFlag, OomProcess
from otel_oom.pipeline.otlp import wire_values
from otel_oom.receivers.oom import records
from otel_oom.receivers.oom.context import Pressure
from otel_oom.receivers.oom.kills import PRIMARY, Kill
from otel_oom.receivers.oom.limit import unlimited_pages

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
UNLIMITED_PAGES = unlimited_pages(PAGE_BYTES)

_AT_DELIVERY = OomMarkFlag.AT_DELIVERY
_HAS_DECISION = OomMarkFlag.HAS_DECISION
_HAS_MM = OomMarkFlag.HAS_MM
_HAS_VICTIM = OomMarkFlag.HAS_VICTIM
_PATH_CUT = OomMarkFlag.PATH_CUT
_TRIGGER_KTHREAD = OomMarkFlag.TRIGGER_KTHREAD
_TRIGGER_PATH_CUT = OomMarkFlag.TRIGGER_PATH_CUT

_SIGNALLED = 0x7F
_NS_PER_S, _NS_PER_MS = 10**9, 10**6
_MOST_KEPT = 1024
_STAT_LINES = {
    semconv.CGROUP_ANON: "anon",
    semconv.CGROUP_FILE: "file",
    semconv.CGROUP_SHMEM: "shmem",
    semconv.CGROUP_SLAB: "slab",
    semconv.CGROUP_KERNEL_STACK: "kernel_stack",
    semconv.CGROUP_PAGE_TABLES: "pagetables",
}

_NOT_READ = Pressure(reason="was not read")

_PROCESS = wire_values.Encoder(
    1, {"pid": "int", "parent_pid": "int", "name": "string", "memory": "int", "role": "string"}
)

Attributes = dict[str, Any]
"""Values as `wire_values.Encoder` takes them: those of arrays are encoded."""


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
        self._missing: list[tuple[str, str]] = []
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
        self.values[semconv.PROCESSES] = processes(kill)
        self.values[semconv.CAPTURE_MODE] = mode
        if self._missing:
            self.values[semconv.MISSING] = _reasons(tuple(self._missing))

    def _lacks(self, key: str, reason: str) -> None:
        self._missing.append((key, reason))

    def _victim(self) -> None:
        mark, values = self._kill.mark, self.values
        values[semconv.PROCESS_PID] = mark.raw.tgid
        if not mark.has(_HAS_VICTIM):
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
        if mark.has(_PATH_CUT):
            self._lacks(semconv.PROCESS_LINUX_CGROUP, "longer than 4 KiB: its root end is cut")

    def _command_line(self) -> None:
        kill, key = self._kill, semconv.PROCESS_COMMAND_ARGS
        if kill.delivered and kill.delivered.args:
            self.values[key] = wire_values.text_elements(kill.delivered.args)
            if kill.delivered.is_cut:
                total = kill.delivered.args_total_bytes
                self._lacks(key, f"cut, the whole has {total} bytes")
        elif kill.context and kill.context.command_line:
            args = records.arguments(kill.context.command_line)
            self.values[key] = wire_values.text_elements(args)
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
        if not mark.has(_HAS_MM):
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
        if mark.has(_AT_DELIVERY):
            self._lacks("oom.victim.memory.*", "as of the SIGKILL's delivery, not of the mark")

    def _trigger(self) -> None:
        mark, values = self._kill.mark, self.values
        if not mark.trigger.tgid and not mark.has(_TRIGGER_KTHREAD):
            self._lacks("oom.trigger.*", "the kernel's mark of this victim was not seen")
            return
        values[semconv.TRIGGER_PID] = mark.trigger.tgid
        values[semconv.TRIGGER_NAME] = records.text(mark.trigger.comm)
        path = mark.victim_path if mark.trigger_is_victim else mark.trigger_path
        values[semconv.TRIGGER_CGROUP] = records.path_text(path)
        if mark.has(_TRIGGER_PATH_CUT):
            self._lacks(semconv.TRIGGER_CGROUP, "longer than 4 KiB: its root end is cut")
        values[semconv.TRIGGER_IS_VICTIM] = mark.trigger_is_victim
        if mark.has(_TRIGGER_KTHREAD):
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
        if not kill.mark.has(_HAS_DECISION):
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
        own = context.cgroup_pressure if context else _NOT_READ
        host = context.host_pressure if context else _NOT_READ
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
    if kill.mark.has(_PATH_CUT):
        above = kill.mark.memcgs[0].level - owner.level
        path = path[: len(path) - above]
    return records.path_text(path[: owner.level])


def processes(kill: Kill) -> bytes:
    """The tree: victim, trigger, the ancestors of both, and others under the limit."""
    mark, parts = kill.mark, []
    seen: set[int] = set()
    if mark.victim.tgid:
        above, pids = _ancestors(mark.ancestors)
        parts = [_named(mark.victim, mark.ancestors[:1], "victim"), above]
        seen = {mark.victim.tgid, *pids}
    if not mark.trigger_is_victim:
        parts += _chain((mark.trigger, *mark.trigger_ancestors), "trigger", seen)
    for sibling in kill.context.siblings if kill.context else ():
        if sibling.pid not in seen:
            parts.append(_sibling(sibling.pid, sibling.parent_pid, sibling.name, sibling.memory))
    return b"".join(parts)


@functools.lru_cache(_MOST_KEPT)
def _ancestors(ancestors: tuple[OomProcess, ...]) -> tuple[bytes, frozenset[int]]:
    """The victim's ancestors, and their ids; all the kills of a storm may have the same."""
    seen: set[int] = set()
    return b"".join(_chain(ancestors, "ancestor", seen)), frozenset(seen)


def _chain(chain: tuple[OomProcess, ...], role: str, seen: set[int]) -> Iterator[bytes]:
    """A process and its ancestors, up to one that was seen; each one's parent is the next."""
    for index, process in enumerate(chain):
        if not process.tgid or process.tgid in seen:
            return
        seen.add(process.tgid)
        yield _named(process, chain[index + 1 : index + 2], role)
        role = "trigger_ancestor" if role == "trigger" else role


def _named(process: OomProcess, parent: tuple[OomProcess, ...], role: str) -> bytes:
    name, memory = records.text(process.comm), process.rss_pages * PAGE_BYTES
    return _process(process.tgid, parent[0].tgid if parent else 0, name, memory, role)


def _process(pid: int, parent_pid: int, name: str, memory: int, role: str) -> bytes:
    """One process as `oom.processes` has it."""
    values = {"pid": pid, "parent_pid": parent_pid, "name": name, "memory": memory, "role": role}
    return wire_values.map_element(_PROCESS.encode(values))


@functools.lru_cache(_MOST_KEPT)
def _sibling(pid: int, parent_pid: int, name: str, memory: int) -> bytes:
    """One of those that the kills of a storm have in common."""
    return _process(pid, parent_pid, name, memory, "sibling")


@functools.lru_cache(_MOST_KEPT)
def _reasons(missing: tuple[tuple[str, str], ...]) -> bytes:
    return wire_values.text_elements(f"{key}: {reason}" for key, reason in missing)


def exit_code(status: int) -> int:
    """A wait(2) status as one number: 128 + signal, or what the process returned."""
    signal = status & _SIGNALLED
    return 128 + signal if signal else status >> 8 & 0xFF


def iso_time(unix_ns: int) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    seconds, rest_ns = divmod(unix_ns, _NS_PER_S)
    return f"{_iso_second(seconds)}.{rest_ns // _NS_PER_MS:03}Z"


@functools.lru_cache(_MOST_KEPT)
def _iso_second(unix_s: int) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
