"""From the kernel's kill to the collector's file: the command, a real kill, a real collector.

Kills of others on this machine are in the data, too: a test asks for those of its own cgroup,
and sums are compared with sums.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from doubles import agent_process, certificates, memory_cgroup, otlp_json_reader, real_collector
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from otel_oom.pipeline import otlp

pytestmark = [pytest.mark.root, pytest.mark.go]

MIB = 1 << 20
PATIENCE_S = 30.0
SCHEMA_URL = re.compile(r"https://opentelemetry\.io/schemas/\d+\.\d+\.\d+")

CONTRACT = """
process.pid process.vpid process.parent_pid process.executable.name process.command_args
process.creation.time process.user.id process.linux.cgroup process.exit.code
oom.exit.confirmed oom.exit.latency oom.constraint
oom.victim.memory.anon oom.victim.memory.file oom.victim.memory.shmem oom.victim.memory.swap
oom.victim.memory.page_tables oom.victim.memory.virtual oom.victim.score_adj oom.victim.score
oom.trigger.process.pid oom.trigger.process.executable.name oom.trigger.cgroup
oom.trigger.is_victim oom.limit.cgroup oom.limit.bytes oom.limit.usage oom.limit.peak
oom.cgroup.usage oom.cgroup.limit oom.cgroup.memory.anon oom.cgroup.memory.file
oom.cgroup.memory.shmem oom.cgroup.memory.slab oom.cgroup.memory.kernel_stack
oom.cgroup.memory.page_tables oom.allocation.order oom.allocation.gfp_flags
oom.group oom.episode.id oom.episode.role oom.episode.kills oom.cgroup.kill_count
oom.processes oom.capture.mode
oom.psi.some.avg10 oom.psi.full.avg10 linux.psi.memory.some.avg10 linux.psi.memory.full.avg10
"""
"""What users' queries stand on: each is on the record, or `oom.missing` says why not."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """What the test itself knows of a kill it made; times by this process's clock."""

    victim: int
    trigger: int
    before_ns: int
    after_ns: int


@dataclasses.dataclass(frozen=True)
class Found:
    """A log record or span in the collector's file, with what surrounds it there."""

    item: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    schema_url: str


@pytest.fixture
def group() -> Iterator[memory_cgroup.MemoryCgroup]:
    with memory_cgroup.temporary(64 * MIB) as made:
        yield made


def kill_a_sleeper(group: memory_cgroup.MemoryCgroup) -> Kill:
    """A sleeper dies because a small process asks: the victim is not the trigger."""
    sleeper = group.hog(
        "comm=sleeper", "adj=900", "eat=40M", "say=ready", "pause", stdout=subprocess.PIPE
    )
    assert sleeper.stdout is not None
    with sleeper.stdout:
        sleeper.stdout.readline()
    before_ns = time.time_ns()
    trigger = group.hog("comm=asker", "eat=32M")
    assert sleeper.wait() == -signal.SIGKILL
    after_ns = time.time_ns()
    assert trigger.wait() == 0
    return Kill(sleeper.pid, trigger.pid, before_ns, after_ns)


def config(tmp_path: pathlib.Path, exporters: dict[str, Any], **parts: Any) -> str:
    """A configuration with every signal to every exporter. YAML is a superset of JSON."""
    processors = parts.get("processors", {"resource": None})
    pipeline = {
        "receivers": ["oom"],
        "processors": list(processors),
        "exporters": list(exporters),
    }
    oom = {"state_directory": str(tmp_path / "state"), **parts.get("oom", {})}
    service = {
        "pipelines": dict.fromkeys(("logs", "traces", "metrics"), pipeline),
        "extensions": list(parts.get("extensions", {})),
        "telemetry": parts.get("telemetry", {}),
    }
    return json.dumps(
        {
            "receivers": {"oom": oom},
            "processors": processors,
            "exporters": exporters,
            "extensions": parts.get("extensions", {}),
            "service": service,
        }
    )


def plain_grpc(collector: real_collector.Collector, **options: Any) -> dict[str, Any]:
    return {
        "otlp_grpc": {
            "endpoint": collector.grpc_endpoint,
            "tls": {"insecure": True},
            **options,
        }
    }


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


def check_record(found: Found, kill: Kill, group: memory_cgroup.MemoryCgroup) -> None:
    """The record is of this kill, whole, and readable."""
    record: LogRecord = found.item
    has, told = found.attributes, missing(found.attributes)
    absent = [key for key in CONTRACT.split() if key not in has and not is_told_missing(key, told)]
    assert not absent, f"neither there nor in oom.missing: {absent}"
    assert all(reason.strip() for reason in told.values())

    assert kill.before_ns <= record.time_unix_nano <= kill.after_ns
    assert record.observed_time_unix_nano >= record.time_unix_nano
    assert (record.event_name, record.severity_text) == ("oom.kill", "ERROR")
    assert record.severity_number == 17
    body = otlp.python_value(record.body)
    assert isinstance(body, str)
    assert body.isprintable()
    assert f"sleeper (pid {kill.victim})" in body
    assert f"asker (pid {kill.trigger})" in body

    assert has["process.pid"] == kill.victim
    assert has["process.executable.name"] == "sleeper"
    assert has["process.command_args"][1:] == ["comm=sleeper", "adj=900", "eat=40M", "say=ready", "pause"]  # fmt: skip
    assert has["oom.trigger.process.pid"] == kill.trigger
    assert has["oom.trigger.process.executable.name"] == "asker"
    assert has["oom.trigger.is_victim"] is False
    assert has["oom.constraint"] == "memcg"
    assert has["oom.limit.cgroup"] == has["process.linux.cgroup"] == group.name
    assert has["oom.limit.bytes"] == group.limit_bytes()
    assert abs(has["oom.victim.memory.anon"] - 40 * MIB) < MIB  # the kernel counts it per CPU
    assert has["oom.victim.score_adj"] == 900
    assert has["process.exit.code"] == 128 + signal.SIGKILL
    assert has["oom.capture.mode"] == "core"
    roles = {process["pid"]: process["role"] for process in has["oom.processes"]}
    assert (roles[kill.victim], roles[kill.trigger]) == ("victim", "trigger")
    assert set(has["oom.processes"][0]) == {"pid", "parent_pid", "name", "memory", "role"}


def check_span(found: Found, log: Found, kill: Kill) -> None:
    """The span is the record's, from the mark to the exit, with what lies between."""
    span: Span = found.item
    assert (span.trace_id, span.span_id) == (log.item.trace_id, log.item.span_id)
    assert any(span.trace_id)
    assert any(span.span_id)
    assert (span.name, span.kind) == ("oom.kill", Span.SpanKind.SPAN_KIND_INTERNAL)
    assert [event.name for event in span.events] == ["marked", "signal_delivered", "exited"]
    marked, delivered, exited = (event.time_unix_nano for event in span.events)
    # The kernel signals just before it marks, and the victim may run on another CPU: the
    # delivery can be microseconds before the mark.
    assert max(marked, delivered) <= exited
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (marked, exited)
    assert marked == log.item.time_unix_nano
    assert kill.before_ns <= min(marked, delivered)
    assert exited <= kill.after_ns
    assert not span.status.code


def check_surroundings(found: Found) -> None:
    """Resource and scope say where it comes from and by which conventions."""
    assert found.resource["host.name"] == socket.gethostname()
    assert found.resource["os.type"] == "linux"
    assert {"host.arch", "os.description"} <= set(found.resource)
    assert SCHEMA_URL.fullmatch(found.schema_url)


def check_metric(collector: real_collector.Collector) -> None:
    """`oom.kills`, last seen, is as many as there are records of killed processes."""
    until(lambda: _killed(collector) == _counted(collector), "as many records as `oom.kills` says")
    *_, last = (each for each in metrics(collector) if each.item.name == "oom.kills")
    assert (last.item.unit, last.item.sum.is_monotonic) == ("{kill}", True)
    check_surroundings(last)


def _counted(collector: real_collector.Collector) -> int:
    """The metric's value: the sum over the constraints, of the last that came; -1 before."""
    found = [each.item for each in metrics(collector) if each.item.name == "oom.kills"]
    return sum(point.as_int for point in found[-1].sum.data_points) if found else -1


def _killed(collector: real_collector.Collector) -> int:
    """How many records there are of processes that were killed, each by itself."""
    roles = [each.attributes.get("oom.episode.role") for each in logs(collector)]
    return sum(role in {"primary", "group_member"} for role in roles)


def check_end(stopped: agent_process.Stopped, copies: int = 1) -> None:
    """A clean stop: everything that was produced was delivered, so often."""
    assert stopped.status == 0, stopped.stderr
    sums = stopped.sums
    assert set(sums) == {"logs", "traces", "metrics"}
    for name, of in sums.items():
        assert of["produced"] > 0, f"{name}: {of}"
        assert of["delivered"] == copies * of["produced"], f"{name}: {of}"
    assert stopped.every_mark_is_reported(), stopped.stderr


ROUTES = ("grpc", "grpc-tls", "http-protobuf", "http-json", "http-tls-uncompressed")


@pytest.mark.parametrize("route", ROUTES)
def test_a_kill_is_whole_in_the_collectors_file(
    route: str,
    collector_binary: pathlib.Path,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    with _peer(route, collector_binary, tmp_path) as (collector, exporters):
        with agent_process.running(config(tmp_path, exporters), tmp_path) as agent:
            kill = kill_a_sleeper(group)
            log, span = the_log(collector, group), the_span(collector, group)
            stopped = agent.stop()

        check_record(log, kill, group)
        check_span(span, log, kill)
        check_surroundings(log)
        check_surroundings(span)
        check_end(stopped)
        check_metric(collector)


@contextlib.contextmanager
def _peer(
    route: str, binary: pathlib.Path, folder: pathlib.Path
) -> Iterator[tuple[real_collector.Collector, dict[str, Any]]]:
    """A collector for a route, and the exporter that sends on it."""
    authority = certificates.Authority(folder) if "tls" in route else None
    pair = authority.issue("server") if authority else None
    with real_collector.running(binary, folder, pair=pair) as collector:
        tls = {"ca_file": str(authority.root.cert)} if authority else {"insecure": True}
        if route.startswith("grpc"):
            yield collector, {"otlp_grpc": {"endpoint": collector.grpc_endpoint, "tls": tls}}
            return
        options: dict[str, Any] = {"endpoint": collector.http_endpoint}
        if authority:
            options["tls"] = tls
        if "json" in route:
            options["encoding"] = "json"
        if "uncompressed" in route:
            options["compression"] = "none"
        yield collector, {"otlp_http": options}


def test_several_destinations_through_batch_each_get_everything(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    """Two kills; gRPC, HTTP and a file: three copies of each, every sum closed."""
    own = tmp_path / "own.jsonl"
    exporters = plain_grpc(collector) | {
        "otlp_http": {"endpoint": collector.http_endpoint},
        "file": {"path": str(own)},
    }
    processors = {"resource": None, "batch": {"timeout": "100ms"}}
    text = config(tmp_path, exporters, processors=processors)
    with agent_process.running(text, tmp_path) as agent:
        kills = [kill_a_sleeper(group) for _ in range(2)]
        stopped = agent.stop(signal.SIGINT)

    check_end(stopped, copies=3)
    found = until(lambda: _at_least(of_group(logs(collector), group), 4), "two records twice")
    pids = sorted(each.attributes["process.pid"] for each in found)
    assert pids == sorted([kill.victim for kill in kills] * 2)
    uids = [each.attributes["log.record.uid"] for each in found]
    assert len(set(uids)) == 2
    (first, *_) = [each for each in found if each.attributes["process.pid"] == kills[0].victim]
    check_record(first, kills[0], group)
    assert {each.attributes["oom.cgroup.kill_count"] for each in found} == {1, 2}
    assert [own.read_text().count(f'"stringValue":"{uid}"') for uid in set(uids)] == [1, 1]


def _at_least(found: list[Found], count: int) -> list[Found]:
    return found if len(found) >= count else []


def test_a_collector_that_comes_up_later_gets_each_record_once(
    collector_binary: pathlib.Path, group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    (port,) = real_collector.free_ports(1)
    retry = {"initial_interval": "300ms", "max_interval": "500ms"}
    exporters = {
        "otlp_grpc": {
            "endpoint": f"127.0.0.1:{port}",
            "tls": {"insecure": True},
            "retry_on_failure": retry,
        }
    }
    with agent_process.running(config(tmp_path, exporters), tmp_path) as agent:
        kills = [kill_a_sleeper(group) for _ in range(3)]
        agent.wait_for_line("StatusRecoverableError")
        time.sleep(2)
        with real_collector.running(collector_binary, tmp_path, grpc_port=port) as collector:
            until(lambda: len(of_group(spans(collector), group)) >= 3, "all spans")
            until(lambda: len(of_group(logs(collector), group)) >= 3, "all records")
            check_end(agent.stop())
            found = of_group(logs(collector), group)

    assert sorted(each.attributes["process.pid"] for each in found) == sorted(
        kill.victim for kill in kills
    )


def test_a_stop_right_after_a_kill_still_delivers_it(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    text = config(tmp_path, plain_grpc(collector), processors={"resource": None, "batch": None})
    with agent_process.running(text, tmp_path) as agent:
        kill = kill_a_sleeper(group)
        stopped = agent.stop(signal.SIGTERM)

    check_end(stopped)
    log = the_log(collector, group)
    check_record(log, kill, group)
    check_span(the_span(collector, group), log, kill)


def test_a_kill_while_the_agent_is_down_is_reported_at_its_start(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    text = config(tmp_path, plain_grpc(collector))
    with agent_process.running(text, tmp_path) as agent:
        kill_a_sleeper(group)
        check_end(agent.stop())
    kill_a_sleeper(group)
    with agent_process.running(text, tmp_path) as agent:
        kill_a_sleeper(group)
        check_end(agent.stop())

    found = until(lambda: _at_least(of_group(logs(collector), group), 3), "three records")
    told = [
        (each.attributes["oom.capture.mode"], each.attributes["oom.cgroup.kill_count"])
        for each in found
    ]
    assert sorted(told, key=lambda pair: pair[1]) == [("core", 1), ("counter", 2), ("core", 3)]
    (missed,) = [each for each in found if each.attributes["oom.capture.mode"] == "counter"]
    assert missed.attributes["oom.missed.reason"] == "agent_down"
    assert missed.attributes["oom.missed.count"] == 1
    assert missed.item.event_name == "oom.kill"
    assert len(of_group(spans(collector), group)) == 2


def test_the_standard_variable_names_the_collector(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    text = config(tmp_path, {"otlp_grpc": None})
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.grpc_endpoint}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=e2e",
    }
    with agent_process.running(text, tmp_path, environment=environment) as agent:
        kill = kill_a_sleeper(group)
        check_end(agent.stop())

    log = the_log(collector, group)
    check_record(log, kill, group)
    assert log.resource["deployment.environment.name"] == "e2e"


def health(port: int) -> int | None:
    """The status of the health answer, None where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except OSError:
            return None


def test_health_is_good_only_while_kills_are_captured(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    """From the first 200 on a kill is captured; before it, and after the stop, there is none."""
    (port,) = real_collector.free_ports(1)
    extensions = {"health_check": {"endpoint": f"127.0.0.1:{port}"}}
    text = config(tmp_path, plain_grpc(collector), extensions=extensions)
    with agent_process.started(text, tmp_path) as agent:
        seen: list[int | None] = []
        until(lambda: seen.append(health(port)) or seen[-1] == 200, "the health answer 200")
        kill = kill_a_sleeper(group)
        stopped = agent.stop()
    assert set(seen[:-1]) <= {None, 503}
    assert health(port) is None
    check_end(stopped)
    check_record(the_log(collector, group), kill, group)


def test_health_is_never_good_where_nothing_can_be_captured(tmp_path: pathlib.Path) -> None:
    """A root without /proc and /sys: the agent says so and ends with status 1."""
    (port,) = real_collector.free_ports(1)
    text = config(
        tmp_path,
        {"debug": None},
        extensions={"health_check": {"endpoint": f"127.0.0.1:{port}"}},
        oom={"root_path": str(tmp_path)},
    )
    with agent_process.started(text, tmp_path) as agent:
        seen = set()
        while agent.process.poll() is None:
            seen.add(health(port))
        stopped = agent.wait()
    assert stopped.status == 1
    assert "receivers/oom" in stopped.stderr
    assert "OOM kills cannot be captured" in stopped.stderr
    assert seen <= {None, 503}


def test_the_agents_own_metrics_arrive(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    """The last ones are those of the closing summary."""
    own = {
        "endpoint": f"http://{collector.grpc_endpoint}",
        "insecure": True,
        "interval": "500ms",
    }
    text = config(tmp_path, plain_grpc(collector), telemetry={"metrics": own})
    with agent_process.running(text, tmp_path) as agent:
        kill_a_sleeper(group)
        until(lambda: _own(collector), "a metric of the agent itself while it runs")
        stopped = agent.stop()
    check_end(stopped)

    logs_sum = stopped.sums["logs"]
    until(
        lambda: (
            _own(collector).get("otel_oom_exporter_sent_log_records") == logs_sum["delivered"]
            and _own(collector)
        ),
        "the last metrics",
    )
    told = _own(collector)
    assert told["otel_oom_receiver_accepted_log_records"] == logs_sum["produced"]
    assert told["otel_oom_kernel_lost"] == 0
    assert told["otel_oom_process_memory_rss"] > 10 * MIB
    assert {"otel_oom_exporter_queue_size", "otel_oom_exporter_queue_capacity",
            "otel_oom_event_loop_lag_s", "otel_oom_oom_reconcile_difference",
            "otel_oom_process_cpu_seconds"} <= set(told)  # fmt: skip


def _own(collector: real_collector.Collector) -> dict[str, float]:
    """The agent's own metrics by name: the sum of the points last seen."""
    latest: dict[str, float] = {}
    for found in metrics(collector):
        if found.item.name.startswith("otel_oom_"):
            data = found.item.sum if found.item.HasField("sum") else found.item.gauge
            latest[found.item.name] = sum(p.as_int or p.as_double for p in data.data_points)
    return latest
