"""One kill of the kernel's log as attributes, in the terms of `semconv`, and what is missing.

The log has what the kernel chose to write, and /proc what is left of the victim when the line is
read. Nothing here guesses: what neither tells is named in `oom.missing` with its reason.
"""

from __future__ import annotations

import dataclasses
import heapq
from typing import Any

from otel_oom import semconv
from otel_oom.pipeline import otlp, text
from otel_oom.receivers.oom import attributes, records
from otel_oom.receivers.oom.context import Context, Pressure
from otel_oom.receivers.oom.kills import GROUP_MEMBER, PRIMARY
from otel_oom.receivers.oom.log_reports import Candidate, LoggedKill, Report
from otel_oom.receivers.oom.victim import Victim

_KIB = 1024
_NO_LIMIT_KIB = attributes.UNLIMITED_PAGES * (attributes.PAGE_BYTES // _KIB)
_NOT_TOLD = "the kernel's log does not tell"
_NO_REPORT = "the kernel's log has no report of this kill: it leaves out those beyond 10 in 5 s"
_NO_MEMBER_REPORT = "the kernel's log reports on the first of a group kill only"
_GONE = "the victim was gone before it could be read"


@dataclasses.dataclass(slots=True)
class ToldKill:
    """A kill as it will be told: the log's lines, and what was read of the victim at once."""

    logged: LoggedKill
    victim: Victim | None
    cgroup: str | None
    context: Context | None
    had_memory: bool
    due_s: float

    @property
    def pid(self) -> int:
        """The process; a thread's id if nothing told whose."""
        return self.logged.tgid or (self.victim.tgid if self.victim else self.logged.killed.pid)

    @property
    def report(self) -> Report | None:
        """The report of the decision that this kill is of."""
        return self.logged.decision.report

    @property
    def limit_cgroup(self) -> str | None:
        """The cgroup whose limit was hit, if the report tells."""
        return self.logged.decision.limit_cgroup

    @property
    def constraint(self) -> str | None:
        """What was short; the line of a kill tells a cgroup's limit from anything else."""
        if self.report and self.report.chosen:
            return self.report.chosen.constraint
        return "memcg" if self.logged.killed.is_memcg else None

    @property
    def trigger_pid(self) -> int | None:
        """The process that asked, if the report tells whose thread it was."""
        if self.report is None or self.report.asking is None:
            return None
        return self.report.tgid(self.report.asking.tid)


class Record:
    """The attributes of one kill; `values` and `missing` are what was found."""

    def __init__(
        self, kill: ToldKill, *, boot_to_unix_ns: int, command_args: bool, cap: int
    ) -> None:
        self.values: dict[str, otlp.Value] = {}
        self.missing: list[str] = []
        self._kill, self._killed = kill, kill.logged.killed
        self._why = self._reason()
        self._victim(boot_to_unix_ns)
        self._command_line(wanted=command_args)
        self._memory()
        self._trigger()
        self._limit()
        self._cgroup_memory()
        self._decision()
        self._pressure()
        self._processes(cap)
        self.values[semconv.CAPTURE_MODE] = "kmsg"
        self.values[semconv.MISSING] = self.missing

    def _reason(self) -> str:
        """Why there is no report of this very kill."""
        if self._kill.logged.is_primary or self._kill.report is None:
            return _NO_REPORT
        return _NO_MEMBER_REPORT

    def _lacks(self, key: str, reason: str) -> None:
        self.missing.append(f"{key}: {reason}")

    def _victim(self, boot_to_unix_ns: int) -> None:
        kill, killed, victim = self._kill, self._killed, self._kill.victim
        self.values[semconv.PROCESS_PID] = kill.pid
        self.values[semconv.PROCESS_EXECUTABLE_NAME] = killed.name
        if kill.logged.tgid is None and victim is None:
            self._lacks(semconv.PROCESS_PID, "a thread's if the process's first one has exited")
        self._set(semconv.PROCESS_USER_ID, killed.uid, _NOT_TOLD)
        self._set(semconv.PROCESS_LINUX_CGROUP, kill.cgroup, f"{self._why}; {_GONE}")
        if kill.report and kill.report.is_pieced and kill.logged.is_primary:
            self._lacks(semconv.PROCESS_LINUX_CGROUP, "others' lines were within the kernel's")
        if victim is None:
            self._lacks("process.{vpid,parent_pid,creation.time}", _GONE)
        else:
            started_ns = victim.start_boot_ns + boot_to_unix_ns
            self.values[semconv.PROCESS_VPID] = victim.vpid
            self.values[semconv.PROCESS_PARENT_PID] = victim.parent_pid
            self.values[semconv.PROCESS_CREATION_TIME] = text.iso_time(started_ns)
        self.values[semconv.EXIT_CONFIRMED] = False
        self._lacks(semconv.PROCESS_EXIT_CODE, _NOT_TOLD)
        self._lacks(semconv.EXIT_LATENCY, _NOT_TOLD)

    def _set(self, key: str, value: otlp.Value | None, reason: str) -> None:
        if value is None:
            self._lacks(key, reason)
        else:
            self.values[key] = value

    def _command_line(self, *, wanted: bool) -> None:
        context, key = self._kill.context, semconv.PROCESS_COMMAND_ARGS
        if not wanted:
            self._lacks(key, "the option `command_args` is false")
        elif context and context.command_line:
            self.values[key] = list(records.arguments(context.command_line))
        else:
            self._lacks(key, _GONE)
        self._lacks(f"{semconv.ENVIRONMENT_PREFIX}*", _NOT_TOLD)

    def _memory(self) -> None:
        killed, row = self._killed, self._candidate(self._killed.pid)
        self.values[semconv.VICTIM_ANON] = killed.anon_kib * _KIB
        self.values[semconv.VICTIM_FILE] = killed.file_kib * _KIB
        self.values[semconv.VICTIM_SHMEM] = killed.shmem_kib * _KIB
        self.values[semconv.VICTIM_VIRTUAL] = killed.virtual_kib * _KIB
        tables = killed.page_tables_kib
        self._set(semconv.VICTIM_PAGE_TABLES, tables and tables * _KIB, _NOT_TOLD)
        self._set(semconv.VICTIM_SCORE_ADJ, killed.score_adj, _NOT_TOLD)
        swap = row.swap_pages if row else None
        pages = None if swap is None else swap * attributes.PAGE_BYTES
        self._set(semconv.VICTIM_SWAP, pages, self._why)
        self._lacks(semconv.VICTIM_SCORE, _NOT_TOLD)

    def _candidate(self, pid: int) -> Candidate | None:
        return self._kill.report.candidates.get(pid) if self._kill.report else None

    def _trigger(self) -> None:
        report, pid = self._kill.report, self._kill.trigger_pid
        if report is None:
            self._lacks("oom.trigger.*", self._why)
            return
        self.values[semconv.TRIGGER_NAME] = report.header.name
        self._lacks(semconv.TRIGGER_CGROUP, _NOT_TOLD)
        if pid is None:
            self._lacks("oom.trigger.{process.pid,is_victim}", "the log has its thread's id alone")
            return
        self.values[semconv.TRIGGER_PID] = pid
        self.values[semconv.TRIGGER_IS_VICTIM] = pid == self._kill.pid

    def _limit(self) -> None:
        kill = self._kill
        self._set(semconv.CONSTRAINT, kill.constraint, self._why)
        if kill.limit_cgroup is not None:
            self.values[semconv.LIMIT_CGROUP] = kill.limit_cgroup
            self._lacks(semconv.LIMIT_PEAK, _NOT_TOLD)
        elif kill.constraint != "none":
            self._lacks("oom.limit.*", self._why if kill.report is None else "it cannot be read")
        usage = kill.report.usage if kill.report and kill.limit_cgroup is not None else None
        if usage is None:
            self._lacks("oom.cgroup.{usage,limit}", self._why)
            return
        self.values[semconv.LIMIT_BYTES] = usage.limit_kib * _KIB
        self.values[semconv.LIMIT_USAGE] = usage.usage_kib * _KIB
        if kill.cgroup != kill.limit_cgroup:
            self._lacks("oom.cgroup.{usage,limit}", "the log has those of the limit's cgroup")
            return
        self.values[semconv.CGROUP_USAGE] = usage.usage_kib * _KIB
        if usage.limit_kib < _NO_LIMIT_KIB:
            self.values[semconv.CGROUP_LIMIT] = usage.limit_kib * _KIB

    def _cgroup_memory(self) -> None:
        self._lacks(semconv.CGROUP_KILL_COUNT, _NOT_TOLD)
        context = self._kill.context
        if context is None or not context.memory or not self._kill.had_memory:
            self._lacks("oom.cgroup.memory.*", "could not be read before the victim's exit")
            return
        absent = []
        for key, name in attributes.STAT_LINES.items():
            if name in context.memory:
                self.values[key] = context.memory[name]
            else:
                absent.append(key.rpartition(".")[2])
        if absent:
            self._lacks(f"oom.cgroup.memory.{{{','.join(absent)}}}", context.memory_reason)

    def _decision(self) -> None:
        decision, report = self._kill.logged.decision, self._kill.report
        is_group = decision.group is not None
        self.values[semconv.GROUP] = is_group
        is_primary = self._kill.logged.is_primary
        self.values[semconv.EPISODE_ROLE] = PRIMARY if is_primary else GROUP_MEMBER
        self.values[semconv.EPISODE_KILLS] = decision.kills
        if is_group and not is_primary and self._kill.cgroup is None:
            self._lacks(semconv.EPISODE_ROLE, "taken from the order of the log's lines")
        if report is None:
            self._lacks("oom.allocation.*", self._why)
            return
        self.values[semconv.ALLOCATION_ORDER] = report.header.order
        self.values[semconv.ALLOCATION_GFP] = report.header.gfp_flags

    def _pressure(self) -> None:
        context = self._kill.context
        none = Pressure(reason=_GONE)
        own = context.cgroup_pressure if context else none
        host = context.host_pressure if context else none
        pairs = (
            ("oom.psi.*", semconv.PSI_SOME, semconv.PSI_FULL, own),
            ("linux.psi.*", semconv.HOST_PSI_SOME, semconv.HOST_PSI_FULL, host),
        )
        for name, some, full, found in pairs:
            if found.reason:
                self._lacks(name, found.reason)
            if found.some is not None:
                self.values[some] = found.some
            if found.full is not None:
                self.values[full] = found.full

    def _processes(self, cap: int) -> None:
        """The victim, who asked, and of the others that could have been chosen the largest."""
        kill, report = self._kill, self._kill.report
        rows = list(report.candidates.values()) if report else []
        named = {kill.pid: "victim"}
        if kill.trigger_pid is not None:
            named.setdefault(kill.trigger_pid, "trigger")
        others = [row for row in rows if row.tgid not in named]
        chosen = [row for row in rows if row.tgid in named]
        chosen += heapq.nlargest(cap, others, key=lambda row: row.rss_pages)
        processes = [_process(row, named.get(row.tgid, "sibling")) for row in chosen]
        if kill.pid not in {row.tgid for row in rows}:
            processes.insert(0, {"pid": kill.pid, "name": self._killed.name, "role": "victim"})
        self.values[semconv.PROCESSES] = processes
        reason = "without parents" if rows else f"the victim alone; {self._why}"
        self._lacks(semconv.PROCESSES, reason)


def _process(row: Candidate, role: str) -> dict[str, Any]:
    memory = row.rss_pages * attributes.PAGE_BYTES
    return {"pid": row.tgid, "name": row.name, "memory": memory, "role": role}
