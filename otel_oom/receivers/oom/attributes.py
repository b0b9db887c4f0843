"""One kill's attributes, in the terms of `semconv`, and what is missing with its reason.

Nothing here guesses: a value that could not be had is left out and named in `oom.missing`.
"""

from __future__ import annotations

import functools

from otel_oom import semconv
from otel_oom.bpf.events import OomMarkFlag
from otel_oom.pipeline import text
from otel_oom.pipeline.otlp import wire_values
from otel_oom.receivers.oom import fields, limit, process_tree, records
from otel_oom.receivers.oom.context import Pressure
from otel_oom.receivers.oom.kills import PRIMARY, Kill

PAGE_BYTES = process_tree.PAGE_BYTES
UNLIMITED_PAGES = limit.unlimited_pages(PAGE_BYTES)

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
_MOST_KEPT, _MOST_ARGUMENTS_KEPT = 1024, 64  # a command line may have 4 KiB
STAT_LINES = {
    semconv.CGROUP_ANON: "anon",
    semconv.CGROUP_FILE: "file",
    semconv.CGROUP_SHMEM: "shmem",
    semconv.CGROUP_SLAB: "slab",
    semconv.CGROUP_KERNEL_STACK: "kernel_stack",
    semconv.CGROUP_PAGE_TABLES: "pagetables",
}

_EXIT_NOT_SEEN = "the victim's exit was not seen in time"
_KILL_NOT_TOLD = "taken as a kill; nothing told it from the mark of a process that is dying anyway"
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
        service_variables: bool = True,
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
        self._init(command_args=command_args)
        if service_variables:
            self._variables()
        self._exit()
        self._memory()
        self._trigger()
        self._limit()
        self._cgroup()
        self._decision()
        self._episode(episode_id)
        self._pressure()
        self.parts += (
            fields.PROCESSES(process_tree.encode(kill, self._ancestors)),
            fields.MODE[mode],
            fields.MISSING[_reasons(tuple(self._missing))] if self._missing else b"",
            fields.UID(uid),
        )

    def _lacks(self, key: str, reason: str) -> None:
        self._missing.append((key, reason))

    def _victim(self, boot_to_unix_ns: int) -> None:
        mark, raw, ancestors = self._kill.mark, self._kill.mark.raw, self._ancestors
        self.parts.append(fields.PID(raw.tgid))
        if not raw.flags & _HAS_VICTIM:
            self._lacks(
                "process.*", "this kernel's hook gives a pid alone, and the victim was gone"
            )
            return
        self.parts += (
            fields.VPID(mark.victim.vpid),
            fields.PARENT_PID[ancestors.first_pid] if ancestors.elements else b"",
            fields.EXECUTABLE[records.text(mark.victim.comm)],
            fields.CREATION_TIME(text.iso_time(raw.start_boot_ns + boot_to_unix_ns)),
            fields.USER_ID[raw.uid],
            fields.CGROUP[records.path_text(mark.victim_path)],
        )
        if raw.flags & _PATH_CUT:
            self._lacks(semconv.PROCESS_LINUX_CGROUP, "longer than 4 KiB: its root end is cut")

    def _command_line(self) -> None:
        kill, key = self._kill, semconv.PROCESS_COMMAND_ARGS
        if kill.delivered and kill.delivered.raw_args:
            self.parts.append(fields.ARGS(_arguments(kill.delivered.raw_args)))
            if kill.delivered.is_cut:
                total = kill.delivered.args_total_bytes
                self._lacks(key, f"cut, the whole has {total} bytes")
        elif kill.context and kill.context.command_line:
            self.parts.append(fields.ARGS(_arguments(kill.context.command_line)))
        else:
            self._lacks(key, "the victim was gone before it could be read")

    def _init(self, *, command_args: bool) -> None:
        """The container's first process, if that is another; it may well live on."""
        init = process_tree.container_init(self._kill.mark.raw_ancestors)
        if init is None or self._kill.mark.victim.vpid == process_tree.INIT_PID:
            return
        self.parts += (
            fields.INIT_PID[init.tgid],
            fields.INIT_NAME[records.text(init.comm)],
        )
        context = self._kill.context
        if command_args and context and context.init_command_line:
            self.parts.append(fields.INIT_ARGS(_arguments(context.init_command_line)))
        elif command_args:
            self._lacks(semconv.INIT_COMMAND_ARGS, "could not be read")

    def _variables(self) -> None:
        told = self._kill.variables
        for name, value in told.found:
            self.parts.append(fields.BY_KEY[semconv.ENVIRONMENT_PREFIX + name][value])
        if told.reason:
            self._lacks(f"{semconv.ENVIRONMENT_PREFIX}*", told.reason)

    def _exit(self) -> None:
        exited = self._kill.exited
        self.parts.append(fields.EXIT_CONFIRMED[exited is not None])
        if exited is None:
            self._lacks(semconv.PROCESS_EXIT_CODE, _EXIT_NOT_SEEN)
            self._lacks(semconv.EXIT_LATENCY, _EXIT_NOT_SEEN)
            return
        latency_ns = exited.boot_ns - self._kill.mark.raw.boot_ns
        self.parts += (
            fields.EXIT_CODE[exit_code(exited.exit_code)],
            fields.EXIT_LATENCY(latency_ns / 1e9),
        )

    def _memory(self) -> None:
        raw = self._kill.mark.raw
        if not raw.flags & _HAS_MM:
            self._lacks("oom.victim.memory.*", "the victim had let go of its memory")
            return
        self.parts += (
            fields.ANON(raw.anon_pages * PAGE_BYTES),
            fields.FILE[raw.file_pages * PAGE_BYTES],
            fields.SHMEM[raw.shmem_pages * PAGE_BYTES],
            fields.SWAP[raw.swap_pages * PAGE_BYTES],
            fields.PAGE_TABLES[raw.page_tables_bytes],
            fields.VIRTUAL(raw.virtual_pages * PAGE_BYTES),
            fields.SCORE_ADJ[raw.score_adj],
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
            fields.TRIGGER_PID(trigger.tgid),
            fields.TRIGGER_NAME[records.text(trigger.comm)],
            fields.TRIGGER_CGROUP[records.path_text(path)],
            fields.TRIGGER_IS_VICTIM[is_victim],
            fields.TRIGGER_IS_KERNEL[True] if flags & _TRIGGER_KTHREAD else b"",
        )
        if flags & _TRIGGER_PATH_CUT:
            self._lacks(semconv.TRIGGER_CGROUP, "longer than 4 KiB: its root end is cut")

    def _limit(self) -> None:
        found, owner = self._kill.limit, self._kill.limit.owner
        if found.constraint:
            self.parts.append(fields.CONSTRAINT[found.constraint])
        else:
            self._lacks(semconv.CONSTRAINT, found.constraint_reason)
        if owner is not None:
            self.parts += (
                fields.LIMIT_CGROUP[limit.owner_path(self._kill.mark, found) or "/"],
                fields.LIMIT_BYTES[owner.max_pages * PAGE_BYTES],
                fields.LIMIT_USAGE[owner.usage_pages * PAGE_BYTES],
                fields.LIMIT_PEAK[owner.peak_pages * PAGE_BYTES],
            )
        elif found.reason:
            self._lacks("oom.limit.*", found.reason)

    def _cgroup(self) -> None:
        memcgs = self._kill.mark.memcgs
        if not memcgs:
            self._lacks("oom.cgroup.*", "the kernel gave no memory cgroup")
            return
        own, is_limited = memcgs[0], memcgs[0].max_pages < UNLIMITED_PAGES
        self.parts += (
            fields.OWN_USAGE[own.usage_pages * PAGE_BYTES],
            fields.OWN_LIMIT[own.max_pages * PAGE_BYTES] if is_limited else b"",
            fields.OWN_KILL_COUNT[own.local_oom_kills],
        )
        self._cgroup_memory()

    def _cgroup_memory(self) -> None:
        context, exited = self._kill.context, self._kill.exited
        if context is None or (exited and exited.boot_ns < context.read_boot_ns):
            self._lacks("oom.cgroup.memory.*", "could not be read before the victim's exit")
            return
        absent = []
        for key, name in STAT_LINES.items():
            if name in context.memory:
                self.parts.append(fields.BY_KEY[key].of(context.memory[name]))
            else:
                absent.append(key.rpartition(".")[2])
        if absent:
            self._lacks(f"oom.cgroup.memory.{{{','.join(absent)}}}", context.memory_reason)

    def _decision(self) -> None:
        raw = self._kill.mark.raw
        if not raw.flags & _HAS_DECISION:
            reason = limit.why_undecided(self._kill.mark)
            self._lacks("oom.allocation.*", reason)
            self._lacks(semconv.VICTIM_SCORE, reason)
            return
        is_chosen = self._kill.role == PRIMARY
        self.parts += (
            fields.ORDER[raw.decision_order],
            fields.GFP[f"{raw.decision_gfp:#x}"],
            fields.SCORE(raw.decision_points) if is_chosen else b"",
        )

    def _episode(self, episode_id: str) -> None:
        kill = self._kill
        self.parts += (
            fields.GROUP[kill.episode.is_group],
            fields.EPISODE_ID(episode_id),
            fields.EPISODE_ROLE[kill.role],
            fields.EPISODE_KILLS[kill.episode.kills],
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
            self.parts.append(fields.BY_KEY[some].of(pressure.some))
        if pressure.full is not None:
            self.parts.append(fields.BY_KEY[full].of(pressure.full))


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
