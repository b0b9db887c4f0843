"""What a test finds in the real collector's file: items with their resource and scope, decoded.

Kills of others on this machine are there, too: `of_group` keeps to the test's own cgroup.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable
from typing import Any

from doubles import memory_cgroup, otlp_json_reader, real_collector
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom.pipeline import otlp

PATIENCE_S = 30.0


@dataclasses.dataclass(frozen=True)
class Found:
    """A log record or span in the collector's file, with what surrounds it there."""

    item: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    schema_url: str


def logs(collector: real_collector.Collector) -> list[Found]:
    return _found(collector, "resourceLogs", LogsData, "log_records")


def spans(collector: real_collector.Collector) -> list[Found]:
    return _found(collector, "resourceSpans", TracesData, "spans")


def metrics(collector: real_collector.Collector) -> list[Found]:
    return _found(collector, "resourceMetrics", MetricsData, "metrics")


def _found(
    collector: real_collector.Collector, key: str, kind: type[Any], items: str
) -> list[Found]:
    """All items of a signal, in the order of the file, read by protobuf's own JSON parser."""
    text = [json.dumps(message).encode() for message in _messages(collector) if key in message]
    found = []
    for message in (otlp_json_reader.parse(line, kind) for line in text):
        for resource in getattr(message, re.sub("([LSM])", r"_\1", key).lower()):
            known = otlp.attributes(resource.resource.attributes)
            for scope in getattr(resource, "scope_" + key.removeprefix("resource").lower()):
                for item in getattr(scope, items):
                    own = otlp.attributes(getattr(item, "attributes", []))
                    found.append(Found(item, own, known, scope.schema_url))
    return found


def _messages(collector: real_collector.Collector) -> list[dict[str, Any]]:
    return collector.messages() if collector.output.exists() else []


def of_group(found: list[Found], group: memory_cgroup.MemoryCgroup) -> list[Found]:
    return [each for each in found if each.attributes.get("process.linux.cgroup") == group.name]


def at_least(found: list[Found], count: int) -> list[Found]:
    """Them, once there are so many; for `until`."""
    return found if len(found) >= count else []


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives, once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return value


def the_log(collector: real_collector.Collector, group: memory_cgroup.MemoryCgroup) -> Found:
    """The one log record of the cgroup, once it is there."""
    (found,) = until(lambda: of_group(logs(collector), group), "the log record")
    return found


def the_span(collector: real_collector.Collector, group: memory_cgroup.MemoryCgroup) -> Found:
    (found,) = until(lambda: of_group(spans(collector), group), "the span")
    return found


def missing(attributes: dict[str, Any]) -> dict[str, str]:
    """`oom.missing` as name, or pattern of names, to reason."""
    return dict(line.split(": ", 1) for line in attributes.get("oom.missing", []))


def is_told_missing(key: str, told: dict[str, str]) -> bool:
    """Whether a name or pattern covers the key: `a.*` or `a.{b,c}`."""
    escaped = (re.sub(r"[{},*.]", lambda sign: _AS_REGEX[sign[0]], name) for name in told)
    return any(re.fullmatch(pattern, key) for pattern in escaped)


_AS_REGEX = {"{": "(?:", ",": "|", "}": ")", "*": ".*", ".": r"\."}


def oom_kills(collector: real_collector.Collector) -> int:
    """The metric's value: the sum over the constraints, of the last that came; -1 before."""
    found = [each.item for each in metrics(collector) if each.item.name == "oom.kills"]
    return sum(point.as_int for point in found[-1].sum.data_points) if found else -1


def killed(collector: real_collector.Collector) -> int:
    """How many records there are of processes that were killed, each by itself."""
    roles = [each.attributes.get("oom.episode.role") for each in logs(collector)]
    return sum(role in {"primary", "group_member"} for role in roles)


def agent_metrics(collector: real_collector.Collector) -> dict[str, float]:
    """The agent's own metrics by name: the sum of the points last seen."""
    latest: dict[str, float] = {}
    for found in metrics(collector):
        if found.item.name.startswith("otel_oom_"):
            data = found.item.sum if found.item.HasField("sum") else found.item.gauge
            latest[found.item.name] = sum(p.as_int or p.as_double for p in data.data_points)
    return latest
