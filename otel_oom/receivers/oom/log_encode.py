"""A kill of the kernel's log as OTLP: its log record. It has no span: its exit is not seen."""

from __future__ import annotations

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, SeverityNumber

from otel_oom import semconv
from otel_oom.pipeline import data, otlp
from otel_oom.receivers.oom import body, ids
from otel_oom.receivers.oom.log_kill import Record, ToldKill

_KIB = 1024


class LogEncoder:
    """Makes OTLP of kills; `cap` bounds the processes of `oom.processes` beside the named ones."""

    def __init__(self, boot_id: str, version: str, *, command_args: bool, cap: int) -> None:
        self._ids = ids.Ids(boot_id)
        self._scope = InstrumentationScope(name=semconv.SCOPE_OOM, version=version)
        self._command_args, self._cap = command_args, cap

    def logs(
        self, kills: list[tuple[ToldKill, int]], boot_to_unix_ns: int, now_ns: int
    ) -> data.Batch:
        """A log record a kill; each comes with its time, in Unix nanoseconds."""
        batch = LogsData()
        for kill, unix_ns in kills:
            holder = batch.resource_logs.add()
            if kill.cgroup is not None:
                pair = otlp.key_value(semconv.PROCESS_LINUX_CGROUP, kill.cgroup)
                holder.resource.attributes.append(pair)
            scope = holder.scope_logs.add(schema_url=semconv.SCHEMA_URL)
            scope.scope.CopyFrom(self._scope)
            scope.log_records.append(self._log(kill, unix_ns, boot_to_unix_ns, now_ns))
        return data.Batch.of(batch)

    def _log(self, kill: ToldKill, unix_ns: int, boot_to_unix_ns: int, now_ns: int) -> LogRecord:
        record = Record(
            kill, boot_to_unix_ns=boot_to_unix_ns, command_args=self._command_args, cap=self._cap
        )
        record.values[semconv.EPISODE_ID] = self._ids.logged(kill.logged.decision.first)
        record.values[semconv.LOG_RECORD_UID] = self._ids.logged(kill.logged.sequence)
        return LogRecord(
            time_unix_nano=min(unix_ns, now_ns),
            observed_time_unix_nano=now_ns,
            severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR,
            severity_text="ERROR",
            event_name=semconv.EVENT_OOM_KILL,
            body=otlp.any_value(line(kill)),
            attributes=otlp.key_values(record.values),
        )


def line(kill: ToldKill) -> str:
    """The kill as one line for a person."""
    killed = kill.logged.killed
    sizes = ", ".join(
        f"{name} {body.mib(kib * _KIB)}"
        for name, kib in (
            ("anon", killed.anon_kib),
            ("file", killed.file_kib),
            ("shmem", killed.shmem_kib),
        )
    )
    name = body.printable(killed.name)
    return f"OOM: killed {name} (pid {kill.pid}) {_short_of(kill)}; it had {sizes}; {_asked(kill)}"


def _short_of(kill: ToldKill) -> str:
    usage = kill.report.usage if kill.report else None
    if kill.limit_cgroup is not None and usage is not None:
        size = body.mib(usage.limit_kib * _KIB)
        return f"at the limit {size} of {body.printable(kill.limit_cgroup)}"
    if kill.constraint == "none":
        return "because the host was short of memory"
    if kill.constraint == "memcg":
        place = f" (in {body.printable(kill.cgroup)})" if kill.cgroup is not None else ""
        return f"at the limit of a cgroup{place}"
    return f"for want of memory ({kill.constraint})" if kill.constraint else "for want of memory"


def _asked(kill: ToldKill) -> str:
    if kill.report is None:
        return "who asked for more is not known"
    if kill.trigger_pid == kill.pid:
        return "it had asked for more itself"
    name = body.printable(kill.report.header.name)
    pid = f" (pid {kill.trigger_pid})" if kill.trigger_pid is not None else ""
    return f"{name}{pid} had asked for more"
