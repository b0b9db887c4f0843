"""Readable text: golden files for what a person sees, and nothing that a terminal would obey.

Run `UPDATE_GOLDEN=1 pytest tests/unit/pipeline/test_render.py` after a wanted change, and
review the difference.
"""

import datetime as dt
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from otel_oom.exporters.debug import dump, process_tree, render
from otel_oom.pipeline import otlp, text

GOLDEN = Path(__file__).parent / "golden"
ZONE = dt.timezone(dt.timedelta(hours=2))
KILL_NS = 1_790_000_000_123_456_789
MIB = 1024 * 1024


def kill(**changes):
    """A log record of an OOM kill, as the telemetry contract has it."""
    attributes = {
        "process.pid": 4242,
        "oom.constraint": "memcg",
        "oom.victim.memory.anon": 60 * MIB,
        "oom.victim.memory.file": 1536 * 1024,
        "oom.victim.memory.swap": 0,
        "oom.limit.bytes": 64 * MIB,
        "oom.limit.usage": 64 * MIB - 4096,
        "oom.trigger.is_victim": False,
        "oom.missing": ["oom.victim.score: the kernel has no hook for it"],
        "oom.processes": [
            {"pid": 1, "parent_pid": 0, "name": "systemd", "memory": 12 * MIB, "role": "ancestor"},
            {"pid": 900, "parent_pid": 1, "name": "sh", "memory": 900_000, "role": "ancestor"},
            {"pid": 4242, "parent_pid": 900, "name": "hog", "memory": 61 * MIB, "role": "victim"},
            {"pid": 4243, "parent_pid": 900, "name": "pump", "memory": 2 * MIB, "role": "trigger"},
            {"pid": 4300, "parent_pid": 4243, "name": "cat", "memory": 0, "role": "sibling"},
            {"pid": 77, "parent_pid": 55, "name": "cron", "role": "sibling"},
        ],
    } | changes
    return LogRecord(
        time_unix_nano=KILL_NS,
        observed_time_unix_nano=KILL_NS + 1_000_000,
        severity_number=17,
        event_name="oom.kill",
        body=otlp.any_value("hog[4242] was killed: memory limit of /kubepods/pod1"),
        attributes=otlp.key_values(attributes),
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
    )


def logs(*records):
    scope = ScopeLogs(log_records=records, schema_url="https://example.org/1")
    scope.scope.name = "otel_oom.receivers.oom"
    resource = ResourceLogs(scope_logs=[scope])
    resource.resource.attributes.extend(otlp.key_values({"host.name": "node-1"}))
    return LogsData(resource_logs=[resource])


def spans():
    span = Span(
        name="oom.kill",
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=KILL_NS,
        end_time_unix_nano=KILL_NS + 2_500_000,
    )
    return TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])


def slow_span():
    span = Span(
        name="storage.write",
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        start_time_unix_nano=KILL_NS,
        end_time_unix_nano=KILL_NS + 64_900_000,
    )
    attributes = {"system.device": HOSTILE, "storage.delay.layer": "device"}
    span.attributes.extend(otlp.key_values({**attributes, "storage.delay.share": 0.944}))
    return TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])


def latencies(**changes):
    """98 values of at most 1 ms, one of 64 ms and one of 1 s, in buckets that end there."""
    point = {"scale": 0, "count": 100, "sum": 1.2, "time_unix_nano": KILL_NS} | changes
    found = ExponentialHistogramDataPoint(**point)
    found.positive.offset = -11
    found.positive.bucket_counts.extend([98, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1])
    found.attributes.extend(otlp.key_values({"system.device": "vda", "storage.operation": "read"}))
    metric = Metric(name="storage.block.device.duration", unit="s")
    metric.exponential_histogram.data_points.append(found)
    resource = ResourceMetrics(scope_metrics=[ScopeMetrics(metrics=[metric])])
    path = {"process.linux.cgroup": "/a/b", "host.name": "h"}
    resource.resource.attributes.extend(otlp.key_values(path))
    return MetricsData(resource_metrics=[resource])


def metrics():
    kills = Metric(name="oom.kills", unit="{kill}")
    point = NumberDataPoint(as_int=3, time_unix_nano=KILL_NS)
    point.attributes.extend(otlp.key_values({"oom.constraint": "memcg"}))
    kills.sum.data_points.append(point)
    times = Metric(name="t", unit="s")
    times.histogram.data_points.append(HistogramDataPoint(count=2, sum=0.5, time_unix_nano=KILL_NS))
    scope = ScopeMetrics(metrics=[kills, times, Metric(name="empty")])
    return MetricsData(resource_metrics=[ResourceMetrics(scope_metrics=[scope])])


HOSTILE = "a\x1b[2J\nb\u202ec\\x1b"

CASES = {
    "oom_kill": lambda: render.lines(logs(kill()), ZONE),
    "oom_kill_detailed": lambda: dump.lines(logs(kill()), ZONE),
    "hostile_names": lambda: render.lines(
        logs(
            kill(
                **{
                    "oom.processes": [
                        {"pid": 1, "parent_pid": 0, "name": HOSTILE, "role": HOSTILE},
                    ]
                }
            ),
            LogRecord(body=otlp.any_value(HOSTILE), severity_text=HOSTILE),
        ),
        ZONE,
    ),
    "hostile_names_detailed": lambda: dump.lines(
        logs(LogRecord(body=otlp.any_value(HOSTILE), attributes=[otlp.key_value(HOSTILE, HOSTILE)]))
    ),
    "plain_record": lambda: render.lines(
        logs(
            LogRecord(
                observed_time_unix_nano=KILL_NS,
                severity_number=9,
                body=otlp.any_value("hello"),
                attributes=otlp.key_values({"k": "v"}),
            ),
            LogRecord(time_unix_nano=KILL_NS, severity_number=13, event_name="only.an.event"),
            LogRecord(
                time_unix_nano=2**64 - 1, severity_number=99, body=otlp.any_value({"a": [1, b"x"]})
            ),
        ),
        ZONE,
    ),
    "spans": lambda: render.lines(spans(), ZONE),
    "spans_detailed": lambda: dump.lines(spans(), ZONE),
    "slow_span": lambda: render.lines(slow_span(), ZONE),
    "latencies": lambda: render.lines(latencies(), ZONE),
    "metrics": lambda: render.lines(metrics(), ZONE),
    "metrics_detailed": lambda: dump.lines(metrics(), ZONE),
}


@pytest.mark.parametrize("name", CASES)
def test_text_is_what_the_golden_file_says(name):
    golden, shown = GOLDEN / f"{name}.txt", "".join(f"{line}\n" for line in CASES[name]())
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(shown, encoding="utf-8")

    assert shown == golden.read_text(encoding="utf-8")


@given(st.text())
def test_safe_text_has_nothing_that_a_terminal_obeys_and_loses_nothing(hostile):
    shown = text.safe(hostile)

    assert shown.isprintable()
    encoded = shown.encode("ascii", "backslashreplace").decode("unicode_escape")
    assert encoded == hostile


@given(
    st.dictionaries(st.text(), st.text() | st.lists(st.text()), max_size=3),
    st.text(),
)
def test_no_line_of_any_record_has_a_character_that_a_terminal_obeys(attributes, body):
    body = body.encode("utf-8", "ignore").decode()
    pairs = {
        key.encode("utf-8", "ignore").decode(): [one.encode("utf-8", "ignore").decode()]
        for key, value in attributes.items()
        for one in value
    }
    record = LogRecord(body=otlp.any_value(body), attributes=otlp.key_values(pairs))
    for line in [*render.lines(logs(record)), *dump.lines(logs(record))]:
        assert line.isprintable()


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (64 * MIB, "64.0 MiB"),
        (2**53, "8192.0 TiB"),
    ],
)
def test_sizes_are_in_binary_units(count, shown):
    assert text.size(count) == shown


_PIDS = st.integers(0, 6)


@given(st.lists(st.fixed_dictionaries({"pid": _PIDS, "parent_pid": _PIDS, "name": st.just("p")})))
def test_a_tree_shows_every_process_once_even_with_circles_and_repeated_pids(processes):
    lines = list(process_tree.lines(processes))

    drawn = sorted(line.rsplit("p[")[-1].rstrip("]") for line in lines)
    assert drawn == sorted(str(process["pid"]) for process in processes)


def test_a_very_deep_tree_is_drawn():
    deep = [{"pid": pid, "parent_pid": pid - 1} for pid in range(1, 3000)]

    assert len(list(process_tree.lines(deep))) == 2999
