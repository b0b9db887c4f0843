"""One kill's attributes, in the terms of `semconv`, and what is missing with its reason.

Nothing here guesses: a value that could not be had is left out and named in `oom.missing`.
"""

from __future__ import annotations

import datetime as dt
import functools

from otel_oom import semconv
from otel_oom.bpf.events import OomMarkFlag
from otel_oom.pipeline.otlp import wire_values
from otel_oom.receivers.oom import process_tree, records
from otel_oom.receivers.oom.context import Pressure
from otel_oom.receivers.oom.kills import PRIMARY, Kill
from otel_oom.receivers.oom.limit import unlimited_pages, why_undecided

PAGE_BYTES = process_tree.PAGE_BYTES
UNLIMITED_PAGES = unlimited_pages(PAGE_BYTES)

# Plain ints: an enum's `&` takes ten times as long.
_AT_DELIVERY = OomMarkFlag.AT_DELIVERY.value
_HAS_DECISION = OomMarkFlag.HAS_DECISION.value
_HAS_MM = OomMarkFlag.HAS_MM.value
_HAS_VICTIM = OomMarkFlag.HAS_VICTIM.value
_KILLED_KNOWN = OomMarkFlag.KILLED_KNOWN.value
_PATH_CUT = OomMarkFlag.PATH_CUT.value
_TRIGGER_KTHREAD = OomMarkFlag.TRIGGER_KTHREAD.value
_TRIGGER_PATH_CUT = OomMarkFlag.TRIGGER_PATH_CUT.value

_SIGNALLED = 0x7F
_NS_PER_S, _NS_PER_MS = 10**9, 10**6
_MOST_KEPT, _MOST_ARGUMENTS_KEPT = 1024, 64  # a command line may have 4 KiB
_STAT_LINES = {
    semconv.CGROUP_ANON: "anon",
    semconv.CGROUP_FILE: "file",
    semconv.CGROUP_SHMEM: "shmem",
    semconv.CGROUP_SLAB: "slab",
    semconv.CGROUP_KERNEL_STACK: "kernel_stack",
    semconv.CGROUP_PAGE_TABLES: "pagetables",
}

_ATTRIBUTES = wire_values.attributes(
    6, {key: attribute.type for key, attribute in semconv.ATTRIBUTES.items()}
)
"""Of a `LogRecord` (opentelemetry-proto, logs/v1/logs.proto), in their wire form."""

# What comes again from kill to kill, by its value.
_PARENT_PID = _ATTRIBUTES[semconv.PROCESS_PARENT_PID]
_EXECUTABLE = _ATTRIBUTES[semconv.PROCESS_EXECUTABLE_NAME]
_USER_ID = _ATTRIBUTES[semconv.PROCESS_USER_ID]
_CGROUP = _ATTRIBUTES[semconv.PROCESS_LINUX_CGROUP]
_EXIT_CONFIRMED = _ATTRIBUTES[semconv.EXIT_CONFIRMED]
_EXIT_NOT_SEEN = "the victim's exit was not seen in time"
_KILL_NOT_TOLD = "taken as a kill; nothing told it from the mark of a process that is dying anyway"
_EXIT_CODE = _ATTRIBUTES[semconv.PROCESS_EXIT_CODE]
_FILE = _ATTRIBUTES[semconv.VICTIM_FILE]
_SHMEM = _ATTRIBUTES[semconv.VICTIM_SHMEM]
_SWAP = _ATTRIBUTES[semconv.VICTIM_SWAP]
_PAGE_TABLES = _ATTRIBUTES[semconv.VICTIM_PAGE_TABLES]
_SCORE_ADJ = _ATTRIBUTES[semconv.VICTIM_SCORE_ADJ]
_TRIGGER_NAME = _ATTRIBUTES[semconv.TRIGGER_NAME]
_TRIGGER_CGROUP = _ATTRIBUTES[semconv.TRIGGER_CGROUP]
_TRIGGER_IS_VICTIM = _ATTRIBUTES[semconv.TRIGGER_IS_VICTIM]
_TRIGGER_IS_KERNEL = _ATTRIBUTES[semconv.TRIGGER_IS_KERNEL]
_CONSTRAINT = _ATTRIBUTES[semconv.CONSTRAINT]
_LIMIT_CGROUP = _ATTRIBUTES[semconv.LIMIT_CGROUP]
_LIMIT_BYTES = _ATTRIBUTES[semconv.LIMIT_BYTES]
_LIMIT_USAGE = _ATTRIBUTES[semconv.LIMIT_USAGE]
_LIMIT_PEAK = _ATTRIBUTES[semconv.LIMIT_PEAK]
_OWN_USAGE = _ATTRIBUTES[semconv.CGROUP_USAGE]
_OWN_LIMIT = _ATTRIBUTES[semconv.CGROUP_LIMIT]
_OWN_KILL_COUNT = _ATTRIBUTES[semconv.CGROUP_KILL_COUNT]
_ORDER = _ATTRIBUTES[semconv.ALLOCATION_ORDER]
_GFP = _ATTRIBUTES[semconv.ALLOCATION_GFP]
_GROUP = _ATTRIBUTES[semconv.GROUP]
_EPISODE_ROLE = _ATTRIBUTES[semconv.EPISODE_ROLE]
_EPISODE_KILLS = _ATTRIBUTES[semconv.EPISODE_KILLS]
_MODE = _ATTRIBUTES[semconv.CAPTURE_MODE]
_MISSING = _ATTRIBUTES[semconv.MISSING]

# What is each kill's own.
_PID = _ATTRIBUTES[semconv.PROCESS_PID].of
_VPID = _ATTRIBUTES[semconv.PROCESS_VPID].of
_CREATION_TIME = _ATTRIBUTES[semconv.PROCESS_CREATION_TIME].of
_ARGS = _ATTRIBUTES[semconv.PROCESS_COMMAND_ARGS].of
_EXIT_LATENCY = _ATTRIBUTES[semconv.EXIT_LATENCY].of
_ANON = _ATTRIBUTES[semconv.VICTIM_ANON].of
_VIRTUAL = _ATTRIBUTES[semconv.VICTIM_VIRTUAL].of
_TRIGGER_PID = _ATTRIBUTES[semconv.TRIGGER_PID].of
_SCORE = _ATTRIBUTES[semconv.VICTIM_SCORE].of
_EPISODE_ID = _ATTRIBUTES[semconv.EPISODE_ID].of
_PROCESSES = _ATTRIBUTES[semconv.PROCESSES].of
_UID = _ATTRIBUTES[semconv.LOG_RECORD_UID].of

_NOT_READ = Pressure(reason="was not read")


class Record:
    """The attributes of one kill, built in the order of the tables in docs/.

    They are written as they are found: to gather values first and write them afterwards made
    the whole way from the ring to OTLP a seventh longer.
    """

    def __init__(
        self,
        kill: Kill,
        *,
        boot_to_unix_ns: int,
        episode_id: str,
        uid: str,
        mode: str,
        command_args: bool = True,
    ) -> None:
        self.parts: list[bytes] = []
        self._missing: list[tuple[str, str]] = []
        self._kill = kill
        self._ancestors = process_tree.chain(kill.mark.raw_ancestors, process_tree.ANCESTOR)
        self._victim(boot_to_unix_ns)
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
        self.parts += (
            _PROCESSES(process_tree.encode(kill, self._ancestors)),
            _MODE[mode],
            _MISSING[_reasons(tuple(self._missing))] if self._missing else b"",
            _UID(uid),
        )

    def _lacks(self, key: str, reason: str) -> None:
        self._missing.append((key, reason))

    def _victim(self, boot_to_unix_ns: int) -> None:
        mark, raw, ancestors = self._kill.mark, self._kill.mark.raw, self._ancestors
        self.parts.append(_PID(raw.tgid))
        if not raw.flags & _HAS_VICTIM:
            self._lacks(
                "process.*", "this kernel's hook gives a pid alone, and the victim was gone"
            )
            return
        self.parts += (
            _VPID(mark.victim.vpid),
            _PARENT_PID[ancestors.first_pid] if ancestors.elements else b"",
            _EXECUTABLE[records.text(mark.victim.comm)],
            _CREATION_TIME(iso_time(raw.start_boot_ns + boot_to_unix_ns)),
            _USER_ID[raw.uid],
            _CGROUP[records.path_text(mark.victim_path)],
        )
        if raw.flags & _PATH_CUT:
            self._lacks(semconv.PROCESS_LINUX_CGROUP, "longer than 4 KiB: its root end is cut")

    def _command_line(self) -> None:
        kill, key = self._kill, semconv.PROCESS_COMMAND_ARGS
        if kill.delivered and kill.delivered.raw_args:
            self.parts.append(_ARGS(_arguments(kill.delivered.raw_args)))
            if kill.delivered.is_cut:
                total = kill.delivered.args_total_bytes
                self._lacks(key, f"cut, the whole has {total} bytes")
        elif kill.context and kill.context.command_line:
            self.parts.append(_ARGS(_arguments(kill.context.command_line)))
        else:
            self._lacks(key, "the victim was gone before it could be read")

    def _exit(self) -> None:
        exited = self._kill.exited
        self.parts.append(_EXIT_CONFIRMED[exited is not None])
        if exited is None:
            self._lacks(semconv.PROCESS_EXIT_CODE, _EXIT_NOT_SEEN)
            self._lacks(semconv.EXIT_LATENCY, _EXIT_NOT_SEEN)
            return
        latency_ns = exited.boot_ns - self._kill.mark.raw.boot_ns
        self.parts += _EXIT_CODE[exit_code(exited.exit_code)], _EXIT_LATENCY(latency_ns / 1e9)

    def _memory(self) -> None:
        raw = self._kill.mark.raw
        if not raw.flags & _HAS_MM:
            self._lacks("oom.victim.memory.*", "the victim had let go of its memory")
            return
        self.parts += (
            _ANON(raw.anon_pages * PAGE_BYTES),
            _FILE[raw.file_pages * PAGE_BYTES],
            _SHMEM[raw.shmem_pages * PAGE_BYTES],
            _SWAP[raw.swap_pages * PAGE_BYTES],
            _PAGE_TABLES[raw.page_tables_bytes],
            _VIRTUAL(raw.virtual_pages * PAGE_BYTES),
            _SCORE_ADJ[raw.score_adj],
        )
        if raw.flags & _AT_DELIVERY:
            self._lacks("oom.victim.memory.*", "as of the SIGKILL's delivery, not of the mark")

    def _trigger(self) -> None:
        mark, flags = self._kill.mark, self._kill.mark.raw.flags
        trigger, is_victim = mark.trigger, mark.trigger_is_victim
        if not trigger.tgid and not flags & _TRIGGER_KTHREAD:
            self._lacks("oom.trigger.*", "the kernel's mark of this victim was not seen")
            return
        path = mark.victim_path if is_victim else mark.trigger_path
        self.parts += (
            _TRIGGER_PID(trigger.tgid),
            _TRIGGER_NAME[records.text(trigger.comm)],
            _TRIGGER_CGROUP[records.path_text(path)],
            _TRIGGER_IS_VICTIM[is_victim],
            _TRIGGER_IS_KERNEL[True] if flags & _TRIGGER_KTHREAD else b"",
        )
        if flags & _TRIGGER_PATH_CUT:
            self._lacks(semconv.TRIGGER_CGROUP, "longer than 4 KiB: its root end is cut")

    def _limit(self) -> None:
        limit, owner = self._kill.limit, self._kill.limit.owner
        if limit.constraint:
            self.parts.append(_CONSTRAINT[limit.constraint])
        else:
            self._lacks(semconv.CONSTRAINT, limit.constraint_reason)
        if owner is not None:
            self.parts += (
                _LIMIT_CGROUP[limit_path(self._kill) or "/"],
                _LIMIT_BYTES[owner.max_pages * PAGE_BYTES],
                _LIMIT_USAGE[owner.usage_pages * PAGE_BYTES],
                _LIMIT_PEAK[owner.peak_pages * PAGE_BYTES],
            )
        elif limit.reason:
            self._lacks("oom.limit.*", limit.reason)

    def _cgroup(self) -> None:
        memcgs = self._kill.mark.memcgs
        if not memcgs:
            self._lacks("oom.cgroup.*", "the kernel gave no memory cgroup")
            return
        own, is_limited = memcgs[0], memcgs[0].max_pages < UNLIMITED_PAGES
        self.parts += (
            _OWN_USAGE[own.usage_pages * PAGE_BYTES],
            _OWN_LIMIT[own.max_pages * PAGE_BYTES] if is_limited else b"",
            _OWN_KILL_COUNT[own.local_oom_kills],
        )
        self._cgroup_memory()

    def _cgroup_memory(self) -> None:
        context, exited = self._kill.context, self._kill.exited
        if context is None or (exited and exited.boot_ns < context.read_boot_ns):
            self._lacks("oom.cgroup.memory.*", "could not be read before the victim's exit")
            return
        absent = []
        for key, name in _STAT_LINES.items():
            if name in context.memory:
                self.parts.append(_ATTRIBUTES[key].of(context.memory[name]))
            else:
                absent.append(key.rpartition(".")[2])
        if absent:
            self._lacks(f"oom.cgroup.memory.{{{','.join(absent)}}}", context.memory_reason)

    def _decision(self) -> None:
        raw = self._kill.mark.raw
        if not raw.flags & _HAS_DECISION:
            reason = why_undecided(self._kill.mark)
            self._lacks("oom.allocation.*", reason)
            self._lacks(semconv.VICTIM_SCORE, reason)
            return
        is_chosen = self._kill.role == PRIMARY
        self.parts += (
            _ORDER[raw.decision_order],
            _GFP[f"{raw.decision_gfp:#x}"],
            _SCORE(raw.decision_points) if is_chosen else b"",
        )

    def _episode(self, episode_id: str) -> None:
        kill = self._kill
        self.parts += (
            _GROUP[kill.episode.is_group],
            _EPISODE_ID(episode_id),
            _EPISODE_ROLE[kill.role],
            _EPISODE_KILLS[kill.episode.kills],
        )
        if not kill.mark.raw.flags & _KILLED_KNOWN:
            self._lacks(semconv.EPISODE_ROLE, _KILL_NOT_TOLD)

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
            self.parts.append(_ATTRIBUTES[some].of(pressure.some))
        if pressure.full is not None:
            self.parts.append(_ATTRIBUTES[full].of(pressure.full))


def limit_path(kill: Kill) -> str | None:
    """Path of the limit's cgroup: the victim's, up to the owner's level; None if unknown."""
    owner, path = kill.limit.owner, kill.mark.victim_path
    if owner is None:
        return None
    if kill.mark.raw.flags & _PATH_CUT:
        above = kill.mark.memcgs[0].level - owner.level
        path = path[: len(path) - above]
    return records.path_text(path[: owner.level])


@functools.lru_cache(_MOST_ARGUMENTS_KEPT)
def _arguments(raw: bytes) -> bytes:
    """A command line's arguments; the replicas of one workload have the same."""
    return wire_values.text_elements(records.arguments(raw))


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
