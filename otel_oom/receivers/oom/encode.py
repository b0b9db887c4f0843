"""A kill as OTLP: its log record, its span; and kills that only a counter tells of.

Ids are made from the boot id and the kernel's own numbers, so the same kill has the same ids
however often it is sent, and the kills of one episode share a trace.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence

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
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_oom import semconv
from otel_oom.pipeline import data, otlp
from otel_oom.pipeline.otlp import wire, wire_values
from otel_oom.receivers.oom import attributes, records
from otel_oom.receivers.oom.kills import ALREADY_DYING, Kill

_MIB = 1024 * 1024
_MOST_KEPT = 1024
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
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


_SPAN_ATTRIBUTES = wire_values.attributes(
    9, {key: attribute.type for key, attribute in semconv.ATTRIBUTES.items()}
)


_ITEM = wire.tag(2, wire.LENGTH)
"""Before a log record or a span in what is around it."""


class _Log:
    """Fields of `LogRecord` (opentelemetry-proto, logs/v1/logs.proto), or what precedes them."""

    TIME, OBSERVED_TIME = wire.tag(1, wire.EIGHT_BYTES), wire.tag(11, wire.EIGHT_BYTES)
    SEVERITY = wire.integer(2, SeverityNumber.SEVERITY_NUMBER_ERROR) + wire.text(3, "ERROR")
    BODY = wire_values.before_text(5)
    TRACE_ID = wire.tag(9, wire.LENGTH) + wire.varint(_TRACE_ID_BYTES)
    SPAN_ID = wire.tag(10, wire.LENGTH) + wire.varint(_SPAN_ID_BYTES)
    EVENT_NAME = wire.text(12, semconv.EVENT_OOM_KILL)


class _Span:
    """Fields of `Span` (opentelemetry-proto, trace/v1/trace.proto), or what precedes them."""

    TRACE_ID = wire.tag(1, wire.LENGTH) + wire.varint(_TRACE_ID_BYTES)
    SPAN_ID = wire.tag(2, wire.LENGTH) + wire.varint(_SPAN_ID_BYTES)
    NAME_AND_KIND = wire.text(5, semconv.SPAN_OOM_KILL) + wire.integer(
        6, Span.SpanKind.SPAN_KIND_INTERNAL
    )
    START, END = wire.tag(7, wire.EIGHT_BYTES), wire.tag(8, wire.EIGHT_BYTES)
    PID = _SPAN_ATTRIBUTES[semconv.PROCESS_PID].of
    EXECUTABLE = _SPAN_ATTRIBUTES[semconv.PROCESS_EXECUTABLE_NAME]
    CGROUP = _SPAN_ATTRIBUTES[semconv.PROCESS_LINUX_CGROUP]
    EPISODE_ID = _SPAN_ATTRIBUTES[semconv.EPISODE_ID].of
    EPISODE_ROLE = _SPAN_ATTRIBUTES[semconv.EPISODE_ROLE]
    MODE = _SPAN_ATTRIBUTES[semconv.CAPTURE_MODE]
    CONSTRAINT = _SPAN_ATTRIBUTES[semconv.CONSTRAINT]
    NO_EXIT = wire.message(
        15,
        wire.text(2, "the victim did not exit within settle_exit")
        + wire.integer(3, Status.StatusCode.STATUS_CODE_ERROR),
    )


class _SpanEvent:
    """An event of a span: its time stands between its two parts."""

    def __init__(self, name: str) -> None:
        time, end = wire.tag(1, wire.EIGHT_BYTES), wire.text(2, name)
        self.start = wire.tag(11, wire.LENGTH) + wire.varint(len(time) + 8 + len(end)) + time
        self.end = end


_MARKED, _DELIVERED, _EXITED = map(_SpanEvent, (event.name for event in semconv.SPAN_EVENTS))


class Encoder:
    """Makes OTLP of kills. `mode` is the capture mode that stands on every record.

    Kills come by the hundred, so they are written in the wire form, and parsed only if asked for.
    """

    def __init__(self, *, boot_id: str, version: str, mode: str, command_args: bool = True) -> None:
        self._boot_id = boot_id
        self._kept_ids = functools.lru_cache(_MOST_KEPT)(self._make_ids)
        self._command_args = command_args
        self._mode = mode
        self._scope = InstrumentationScope(name=semconv.SCOPE_OOM, version=version)
        self._scope_start = wire.message(1, self._scope.SerializeToString())
        self._scope_end = wire.text(3, semconv.SCHEMA_URL)

    def logs(self, kills: Sequence[Kill], boot_to_unix_ns: int, now_ns: int) -> data.Batch:
        """One log record a kill; one resource a victim's cgroup, for those who enrich it."""
        encoded = self._by_cgroup(kills, lambda kill: self._log(kill, boot_to_unix_ns, now_ns))
        return data.Batch(data.Signal.LOGS, encoded, len(kills))

    def spans(self, kills: Sequence[Kill], boot_to_unix_ns: int) -> data.Batch:
        """One span a kill, from the mark to the exit; status ERROR if it is not dead yet."""
        encoded = self._by_cgroup(kills, lambda kill: self._span(kill, boot_to_unix_ns))
        return data.Batch(data.Signal.TRACES, encoded, len(kills))

    def _by_cgroup(self, kills: Iterable[Kill], encode: Callable[[Kill], bytes]) -> bytes:
        """`LogsData` or `TracesData`: they, and what is in them, have the same field numbers."""
        scopes: dict[tuple[str, ...], list[bytes]] = {}
        for kill in kills:
            items = scopes.setdefault(kill.mark.victim_path, [])
            encoded = encode(kill)
            items += _ITEM, wire.varint(len(encoded)), encoded
        return b"".join(map(self._resource, scopes.values()))

    def _resource(self, items: list[bytes]) -> bytes:
        scope = b"".join((self._scope_start, *items, self._scope_end))
        return wire.message(1, wire.message(2, scope))

    def _log(self, kill: Kill, boot_to_unix_ns: int, now_ns: int) -> bytes:
        """The `LogRecord` of one kill."""
        trace_id, span_id, episode_id = self._ids(kill)
        text = body(kill).encode()
        record = attributes.Record(
            kill,
            boot_to_unix_ns=boot_to_unix_ns,
            episode_id=episode_id,
            uid=episode_id + span_id.hex(),
            mode=self._mode,
            command_args=self._command_args,
        )
        parts = [
            _Log.TIME,
            wire.eight_bytes(kill.mark.raw.boot_ns + boot_to_unix_ns),
            _Log.SEVERITY,
            _Log.BODY[len(text)],
            text,
            *record.parts,
            _Log.TRACE_ID,
            trace_id,
            _Log.SPAN_ID,
            span_id,
            _Log.OBSERVED_TIME,
            wire.eight_bytes(now_ns),
            _Log.EVENT_NAME,
        ]
        return b"".join(parts)

    def _span(self, kill: Kill, boot_to_unix_ns: int) -> bytes:
        """The `Span` of one kill."""
        trace_id, span_id, episode_id = self._ids(kill)
        end_ns = start_ns = kill.mark.raw.boot_ns
        start = end = wire.eight_bytes(start_ns + boot_to_unix_ns)
        events = [_MARKED.start, start, _MARKED.end]
        for event, record in (_DELIVERED, kill.delivered), (_EXITED, kill.exited):
            if record is not None:
                at = wire.eight_bytes(record.boot_ns + boot_to_unix_ns)
                events += event.start, at, event.end
                if record.boot_ns > end_ns:
                    end_ns, end = record.boot_ns, at
        parts = (
            _Span.TRACE_ID,
            trace_id,
            _Span.SPAN_ID,
            span_id,
            _Span.NAME_AND_KIND,
            _Span.START,
            start,
            _Span.END,
            end,
            *self._span_attributes(kill, episode_id),
            *events,
            b"" if kill.exited else _Span.NO_EXIT,
        )
        return b"".join(parts)

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
        uid = _digest(16, f"{self._boot_id}\0{missed.cgroup or ''}\0{missed.reason}\0{now_ns}")
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

    def _span_attributes(self, kill: Kill, episode_id: str) -> tuple[bytes, ...]:
        mark, constraint = kill.mark, kill.limit.constraint
        return (
            _Span.PID(mark.raw.tgid),
            _Span.EXECUTABLE[records.text(mark.victim.comm)],
            _Span.CGROUP[records.path_text(mark.victim_path)],
            _Span.EPISODE_ID(episode_id),
            _Span.EPISODE_ROLE[kill.role],
            _Span.MODE[self._mode],
            _Span.CONSTRAINT[constraint] if constraint else b"",
        )

    def _ids(self, kill: Kill) -> tuple[bytes, bytes, str]:
        """Trace id of the episode, span id of the kill; the trace id in hexadecimal too."""
        return self._kept_ids(kill.episode.first_boot_ns, kill.mark.identity)

    def _make_ids(self, first_boot_ns: int, identity: records.Identity) -> tuple[bytes, bytes, str]:
        tgid, start_boot_ns = identity
        trace_id = _digest(_TRACE_ID_BYTES, f"{self._boot_id}\0{first_boot_ns}")
        span_id = _digest(_SPAN_ID_BYTES, f"{self._boot_id}\0{tgid}\0{start_boot_ns}")
        return trace_id, span_id, trace_id.hex()

    def _scope_logs(self, resource: ResourceLogs) -> ScopeLogs:
        scope = resource.scope_logs.add(schema_url=semconv.SCHEMA_URL)
        scope.scope.CopyFrom(self._scope)
        return scope


def body(kill: Kill) -> str:
    """One line that a person can read, whatever bytes the processes' names hold."""
    mark, verb = kill.mark, "killed"
    if kill.role == ALREADY_DYING:
        verb = "let die (it was dying already)"
    name, raw = _name(mark.victim.comm), mark.raw
    return (
        f"OOM: {verb} {name} (pid {raw.tgid}) {_short_of(kill)}; it had "
        f"anon {_mib(raw.anon_pages)}, file {_kept_mib(raw.file_pages)}, "
        f"shmem {_kept_mib(raw.shmem_pages)}; {_asked(kill)}"
    )


def _mib(pages: int) -> str:
    return f"{pages * attributes.PAGE_BYTES / _MIB:.1f} MiB"


_kept_mib = functools.lru_cache(_MOST_KEPT)(_mib)
"""For what comes again from kill to kill."""


def _short_of(kill: Kill) -> str:
    owner = kill.limit.owner
    if owner is not None:
        path = _printable(attributes.limit_path(kill) or "")
        return f"at the limit {_kept_mib(owner.max_pages)} of {path}"
    what = {"none": "because the host was short of memory", "": "for want of memory"}
    return what.get(kill.limit.constraint, f"for want of memory ({kill.limit.constraint})")


def _asked(kill: Kill) -> str:
    if kill.mark.trigger_is_victim:
        return "it had asked for more itself"
    if not kill.mark.trigger.tgid:
        return "who asked for more is not known"
    name = _name(kill.mark.trigger.comm)
    return f"{name} (pid {kill.mark.trigger.tgid}) had asked for more"


@functools.lru_cache(_MOST_KEPT)
def _name(comm: bytes) -> str:
    return _printable(records.text(comm))


@functools.lru_cache(_MOST_KEPT)
def _printable(text: str) -> str:
    return text if text.isprintable() else text.translate(_NAMES)


def _digest(size: int, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size).digest()
