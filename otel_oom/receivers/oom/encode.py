"""A kill as OTLP: its log record, its span; and kills that only a counter tells of.

Kills come by the hundred, so they are written in the wire form, and parsed only if asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import (
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
from otel_oom.bpf.events import OomMarkFlag
from otel_oom.pipeline import data, otlp
from otel_oom.pipeline.otlp import wire, wire_values
from otel_oom.receivers.oom import attributes, body, fields, ids, records
from otel_oom.receivers.oom.kills import Kill
from otel_oom.receivers.oom.missed import Missed, log_record

_SPAN_ATTRIBUTES = fields.attributes(9)

_HAS_VICTIM = OomMarkFlag.HAS_VICTIM.value
_CGROUP = fields.attributes(1)[semconv.PROCESS_LINUX_CGROUP]
"""Of a `Resource`."""

_ITEM = wire.tag(2, wire.LENGTH)
"""Before a log record or a span in what is around it."""


class _Log:
    """Fields of `LogRecord` (opentelemetry-proto, logs/v1/logs.proto), or what precedes them."""

    TIME, OBSERVED_TIME = wire.tag(1, wire.EIGHT_BYTES), wire.tag(11, wire.EIGHT_BYTES)
    SEVERITY = wire.integer(2, SeverityNumber.SEVERITY_NUMBER_ERROR) + wire.text(3, "ERROR")
    BODY = wire_values.before_text(5)
    TRACE_ID = wire.tag(9, wire.LENGTH) + wire.varint(ids.TRACE_ID_BYTES)
    SPAN_ID = wire.tag(10, wire.LENGTH) + wire.varint(ids.SPAN_ID_BYTES)
    EVENT_NAME = wire.text(12, semconv.EVENT_OOM_KILL)


class _Span:
    """Fields of `Span` (opentelemetry-proto, trace/v1/trace.proto), or what precedes them."""

    TRACE_ID = wire.tag(1, wire.LENGTH) + wire.varint(ids.TRACE_ID_BYTES)
    SPAN_ID = wire.tag(2, wire.LENGTH) + wire.varint(ids.SPAN_ID_BYTES)
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

    `ids` gives those that stand on a kill's record and span.
    """

    def __init__(
        self,
        *,
        boot_id: str,
        version: str,
        mode: str,
        command_args: bool = True,
        service_variables: bool = True,
    ) -> None:
        self.ids = ids.Ids(boot_id)
        self._command_args = command_args
        self._service_variables = service_variables
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
        """`LogsData` or `TracesData`: they, and what is in them, have the same field numbers.

        Kills of one cgroup whose victims name their service otherwise do not share a resource.
        """
        scopes: dict[tuple[str | None, Any], list[bytes]] = {}
        for kill in kills:
            told = kill.variables.found if self._service_variables else ()
            is_known = kill.mark.raw.flags & _HAS_VICTIM
            path = records.path_text(kill.mark.victim_path) if is_known else None
            items = scopes.setdefault((path, told), [])
            encoded = encode(kill)
            items += _ITEM, wire.varint(len(encoded)), encoded
        return b"".join(self._resource(path, items) for (path, _), items in scopes.items())

    def _resource(self, path: str | None, items: list[bytes]) -> bytes:
        """One without a path is of a kill whose cgroup is not known."""
        resource = b"" if path is None else wire.message(1, _CGROUP[path])
        scope = b"".join((self._scope_start, *items, self._scope_end))
        return wire.message(1, resource + wire.message(2, scope))

    def _log(self, kill: Kill, boot_to_unix_ns: int, now_ns: int) -> bytes:
        """The `LogRecord` of one kill."""
        trace_id, span_id, episode_id = self.ids.of(kill)
        text = body.line(kill).encode()
        record = attributes.Record(
            kill,
            boot_to_unix_ns=boot_to_unix_ns,
            episode_id=episode_id,
            uid=episode_id + span_id.hex(),
            mode=self._mode,
            command_args=self._command_args,
            service_variables=self._service_variables,
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
        trace_id, span_id, episode_id = self.ids.of(kill)
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
            holder = batch.resource_logs.add()
            if each.cgroup is not None:
                pair = otlp.key_value(semconv.PROCESS_LINUX_CGROUP, each.cgroup)
                holder.resource.attributes.append(pair)
            scope = self._scope_logs(holder)
            scope.log_records.append(log_record(each, self.ids.missed(each, now_ns), now_ns))
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

    def _scope_logs(self, resource: ResourceLogs) -> ScopeLogs:
        scope = resource.scope_logs.add(schema_url=semconv.SCHEMA_URL)
        scope.scope.CopyFrom(self._scope)
        return scope
