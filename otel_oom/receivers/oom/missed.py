"""Kills that only the kernel's counters tell of, and the record that says so."""

from __future__ import annotations

import dataclasses

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from otel_oom import semconv
from otel_oom.pipeline import otlp, text


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


def log_record(missed: Missed, uid: str, now_ns: int) -> LogRecord:
    """The record; when they were killed is not known."""
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
    values[semconv.LOG_RECORD_UID] = uid
    return LogRecord(
        observed_time_unix_nano=now_ns,
        severity_number=SeverityNumber.SEVERITY_NUMBER_ERROR,
        severity_text="ERROR",
        event_name=semconv.EVENT_OOM_KILL,
        body=otlp.any_value(
            f"OOM: {missed.count} kill(s){place} known from the kernel's counter alone "
            f"({missed.reason}), since "
            f"{text.iso_time(missed.since_unix_ns)}"
        ),
        attributes=otlp.key_values(values),
    )
