"""Times of slow operations while the wall clock jumps: moments move, durations do not."""

from __future__ import annotations

import time

import pytest
from doubles import storage_told as told
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from otel_oom.pipeline import clock, otlp

DAY_NS = 86_400 * 10**9
JUMPS_NS = [0, 1, -DAY_NS, DAY_NS, -20 * 365 * DAY_NS, 20 * 365 * DAY_NS]


def encoded(to_unix_ns: int) -> tuple[list[LogRecord], list[Span]]:
    """Each variant, told while the two clocks are so far apart."""
    pairs = list(told.variants().values())
    logs, spans = told.encoder().batches(told.slows(pairs), to_unix_ns, told.NOW_NS)
    assert isinstance(logs.data, LogsData)
    assert isinstance(spans.data, TracesData)
    return (
        [one for each in logs.data.resource_logs for one in each.scope_logs[0].log_records],
        [one for each in spans.data.resource_spans for one in each.scope_spans[0].spans],
    )


def after_start(span: Span) -> list[int]:
    """All times of a span, counted from its start."""
    times = [*(event.time_unix_nano for event in span.events), span.end_time_unix_nano]
    return [time_ns - span.start_time_unix_nano for time_ns in times]


@pytest.mark.parametrize("jump_ns", JUMPS_NS)
def test_a_jump_of_the_wall_clock_moves_a_span_whole(jump_ns: int) -> None:
    logs, spans = encoded(told.TO_UNIX_NS)
    moved_logs, moved_spans = encoded(told.TO_UNIX_NS + jump_ns)

    for span, moved in zip(spans, moved_spans, strict=True):
        assert moved.start_time_unix_nano - span.start_time_unix_nano == jump_ns
        assert after_start(moved) == after_start(span)
        assert min(after_start(moved)) >= 0
        assert otlp.attributes(moved.attributes) == otlp.attributes(span.attributes)
    for log, moved_log in zip(logs, moved_logs, strict=True):
        assert moved_log.time_unix_nano - log.time_unix_nano == jump_ns
        assert moved_log.attributes == log.attributes
        assert moved_log.body == log.body


def test_the_offset_follows_a_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is the same as long as it was not."""
    real = time.time_ns
    kept = clock.Clock(time.CLOCK_MONOTONIC)
    first_ns = kept.to_unix_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real() - DAY_NS)
    back_ns = kept.to_unix_ns()
    monkeypatch.undo()

    assert abs(first_ns - back_ns - DAY_NS) < DAY_NS / 1000
    assert abs(kept.to_unix_ns() - first_ns) < DAY_NS / 1000
