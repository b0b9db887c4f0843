"""A kill as OTLP: its log record, its span; and kills that only a counter tells of.

Ids are made from the boot id and the kernel's own numbers, so the same kill has the same ids
however often it is sent, and the kills of one episode share a trace.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import (
    LogRecord,
    LogsData,
    ResourceLogs,
    ScopeLogs,
    SeverityNumber,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.trace.v1.trace_pb2 import (
    ResourceSpans,
    ScopeSpans,
    Span,
    Status,
    TracesData,
)

from otel_oom import semconv
from otel_oom.pipeline import data, otlp
from otel_oom.receivers.oom import attributes, records
from otel_oom.receivers.oom.kills import ALREADY_DYING, Kill

_MIB = 1024 * 1024
_NAMES = str.maketrans({code: f"\\x{code:02x}" for code in (*range(32), 127)})


@dataclasses.dataclass(frozen=True, slots=True)
class Missed:
    """Kills of one cgroup (None: of which is not known) without a record of their own.

    `since_unix_ns` is when the counter was last seen without them, `kill_count` what the
    cgroup's counter says now.
    """

    count: int
    reason: str
    since_unix_ns: int
    cgroup: str | None = None
    kill_count: int | None = None


class Encoder:
    """Makes OTLP of kills. `mode` is the capture mode that stands on every record."""

    def __init__(self, *, boot_id: str, version: str, mode: str, command_args: bool = True) -> None:
        self._boot_id = boot_id
        self._command_args = command_args
        self._mode = mode
        self._scope = InstrumentationScope(name=semconv.SCOPE_OOM, version=version)

    def logs(self, kills: Iterable[Kill], boot_to_unix_ns: int, now_ns: int) -> data.Batch:
        """One log record a kill; one resource a victim's cgroup, for those who enrich it."""
        scopes: dict[tuple[str, ...], ScopeLogs] = {}
        batch = LogsData()
        for kill in kills:
            path = kill.mark.victim_path
            if path not in scopes:
                scopes[path] = self._scope_logs(batch.resource_logs.add())
            scopes[path].log_records.append(self.log(kill, boot_to_unix_ns, now_ns))
        return data.Batch.of(batch)

    def spans(self, kills: Iterable[Kill], boot_to_unix_ns: int) -> data.Batch:
        """One span a kill, from the mark to the exit."""
        scopes: dict[tuple[str, ...], ScopeSpans] = {}
        batch = TracesData()
        for kill in kills:
            path = kill.mark.victim_path
            if path not in scopes:
                scopes[path] = self._scope_spans(batch.resource_spans.add())
            scopes[path].spans.append(self.span(kill, boot_to_unix_ns))
        return data.Batch.of(batch)

    def log(self, kill: Kill, boot_to_unix_ns: int, now_ns: int) -> LogRecord:
        """The record of one kill."""
        found = attributes.Record(
            kill,
            boot_to_unix_ns=boot_to_unix_ns,
            episode_id=self._episode_id(kill),
            mode=self._mode,
            command_args=self._command_args,
        )
        trace_id, span_id = self._ids(kill)
        pairs = otlp.key_values(found.values)
        pairs.append(otlp.key_value(semconv.LOG_RECORD_UID, f"{trace_id.hex()}{span_id.hex()}"))
        return LogRecord(
            time_unix_nano=kill.mark.raw.boot_ns + boot_to_unix_ns,
            observed_time_unix_nano=now_ns,
            severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR,
            severity_text="ERROR",
            event_name=semconv.EVENT_OOM_KILL,
            body=otlp.any_value(body(kill)),
            attributes=pairs,
            trace_id=trace_id,
            span_id=span_id,
        )

    def span(self, kill: Kill, boot_to_unix_ns: int) -> Span:
        """The span of one kill; status ERROR if its victim is not dead yet."""
        mark, trace_id_span_id = kill.mark, self._ids(kill)
        ends = [mark.raw.boot_ns]
        events = [("marked", mark.raw.boot_ns)]
        for name, record in (("signal_delivered", kill.delivered), ("exited", kill.exited)):
            if record is not None:
                events.append((name, record.boot_ns))
                ends.append(record.boot_ns)
        span = Span(
            trace_id=trace_id_span_id[0],
            span_id=trace_id_span_id[1],
            name=semconv.SPAN_OOM_KILL,
            kind=Span.SpanKind.SPAN_KIND_INTERNAL,
            start_time_unix_nano=mark.raw.boot_ns + boot_to_unix_ns,
            end_time_unix_nano=max(ends) + boot_to_unix_ns,
            attributes=otlp.key_values(self._span_attributes(kill)),
            events=[
                Span.Event(name=name, time_unix_nano=at + boot_to_unix_ns) for name, at in events
            ],
        )
        if kill.exited is None:
            span.status.CopyFrom(
                Status(
                    code=Status.StatusCode.STATUS_CODE_ERROR,
                    message="the victim did not exit within settle_exit",
                )
            )
        return span

    def missed(self, missed: Iterable[Missed], now_ns: int) -> data.Batch:
        """Records of kills that only the kernel's counters tell of; their time is not known."""
        batch = LogsData()
        for each in missed:
            scope = self._scope_logs(batch.resource_logs.add())
            scope.log_records.append(self._missed_log(each, now_ns))
        return data.Batch.of(batch)

    def kills_metric(self, kills: dict[str, int], start_ns: int, now_ns: int) -> data.Batch:
        """The metric `oom.kills`: cumulative, by constraint."""
        points = [
            NumberDataPoint(
                start_time_unix_nano=start_ns,
                time_unix_nano=now_ns,
                as_int=count,
                attributes=[otlp.key_value(semconv.CONSTRAINT, constraint)],
            )
            for constraint, count in kills.items()
        ]
        definition = semconv.METRIC_OOM_KILLS
        metric = Metric(
            name=definition.name,
            unit=definition.unit,
            description=definition.brief,
            sum=Sum(
                data_points=points,
                aggregation_temporality=(AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE),
                is_monotonic=True,
            ),
        )
        scope = ScopeMetrics(scope=self._scope, metrics=[metric], schema_url=semconv.SCHEMA_URL)
        return data.metrics(ResourceMetrics(scope_metrics=[scope]))

    def _missed_log(self, missed: Missed, now_ns: int) -> LogRecord:
        place = f" in {missed.cgroup}" if missed.cgroup else ""
        values: dict[str, otlp.Value] = {
            semconv.MISSED_COUNT: missed.count,
            semconv.MISSED_REASON: missed.reason,
            semconv.CAPTURE_MODE: "counter",
            semconv.MISSING: ["process.*: only the kernel's counter tells of these kills"],
        }
        if missed.cgroup is not None:
            values[semconv.PROCESS_LINUX_CGROUP] = missed.cgroup
        if missed.kill_count is not None:
            values[semconv.CGROUP_KILL_COUNT] = missed.kill_count
        uid = _digest(16, self._boot_id, missed.cgroup or "", missed.reason, str(now_ns))
        values[semconv.LOG_RECORD_UID] = uid.hex()
        return LogRecord(
            observed_time_unix_nano=now_ns,
            severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR,
            severity_text="ERROR",
            event_name=semconv.EVENT_OOM_KILL,
            body=otlp.any_value(
                f"OOM: {missed.count} kill(s){place} known from the kernel's counter alone "
                f"({missed.reason}), since "
                f"{attributes.iso_time(missed.since_unix_ns)}"
            ),
            attributes=otlp.key_values(values),
        )

    def _span_attributes(self, kill: Kill) -> dict[str, otlp.Value]:
        found: dict[str, otlp.Value] = {
            semconv.PROCESS_PID: kill.mark.raw.tgid,
            semconv.PROCESS_EXECUTABLE_NAME: records.text(kill.mark.victim.comm),
            semconv.PROCESS_LINUX_CGROUP: records.path_text(kill.mark.victim_path),
            semconv.EPISODE_ID: self._episode_id(kill),
            semconv.EPISODE_ROLE: kill.role,
            semconv.CAPTURE_MODE: self._mode,
        }
        if kill.limit.constraint:
            found[semconv.CONSTRAINT] = kill.limit.constraint
        return found

    def _episode_id(self, kill: Kill) -> str:
        return self._ids(kill)[0].hex()

    def _ids(self, kill: Kill) -> tuple[bytes, bytes]:
        """Trace id of the episode (16 bytes), span id of the kill (8 bytes)."""
        trace_id = _digest(16, self._boot_id, str(kill.episode.first_boot_ns))
        tgid, start_boot_ns = kill.mark.identity
        return trace_id, _digest(8, self._boot_id, str(tgid), str(start_boot_ns))

    def _scope_logs(self, resource: ResourceLogs) -> ScopeLogs:
        scope = resource.scope_logs.add(schema_url=semconv.SCHEMA_URL)
        scope.scope.CopyFrom(self._scope)
        return scope

    def _scope_spans(self, resource: ResourceSpans) -> ScopeSpans:
        scope = resource.scope_spans.add(schema_url=semconv.SCHEMA_URL)
        scope.scope.CopyFrom(self._scope)
        return scope


def body(kill: Kill) -> str:
    """One line that a person can read, whatever bytes the processes' names hold."""
    mark, verb = kill.mark, "killed"
    if kill.role == ALREADY_DYING:
        verb = "let die (it was dying already)"
    name = records.text(mark.victim.comm)
    raw = mark.raw
    memory = ", ".join(
        f"{kind} {pages * attributes.PAGE_BYTES / _MIB:.1f} MiB"
        for kind, pages in (
            ("anon", raw.anon_pages),
            ("file", raw.file_pages),
            ("shmem", raw.shmem_pages),
        )
    )
    line = f"OOM: {verb} {name} (pid {raw.tgid}) {_short_of(kill)}; it had {memory}"
    return f"{line}; {_asked(kill)}".translate(_NAMES)


def _short_of(kill: Kill) -> str:
    owner = kill.limit.owner
    if owner is not None:
        limit = f"{owner.max_pages * attributes.PAGE_BYTES / _MIB:.1f} MiB"
        return f"at the limit {limit} of {attributes.limit_path(kill)}"
    what = {"none": "because the host was short of memory", "": "for want of memory"}
    return what.get(kill.limit.constraint, f"for want of memory ({kill.limit.constraint})")


def _asked(kill: Kill) -> str:
    if kill.mark.trigger_is_victim:
        return "it had asked for more itself"
    if not kill.mark.trigger.tgid:
        return "who asked for more is not known"
    name = records.text(kill.mark.trigger.comm)
    return f"{name} (pid {kill.mark.trigger.tgid}) had asked for more"


def _digest(size: int, *parts: str) -> bytes:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=size).digest()
