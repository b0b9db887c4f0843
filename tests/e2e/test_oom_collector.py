"""From the kernel's kill to the collector's file: the command, a real kill, a real collector.

Kills of others on this machine are in the data, too: a test asks for those of its own cgroup,
and sums are compared with sums.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import (
    agent_process,
    certificates,
    collected,
    memory_cgroup,
    oom_contract,
    real_collector,
    sleeper,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.pipeline import otlp

pytestmark = [pytest.mark.root, pytest.mark.go]

MIB = 1 << 20
SCHEMA_URL = re.compile(r"https://opentelemetry\.io/schemas/\d+\.\d+\.\d+")


@pytest.fixture
def group() -> Iterator[memory_cgroup.MemoryCgroup]:
    with memory_cgroup.temporary(sleeper.LIMIT_BYTES) as made:
        yield made


def check_record(
    found: collected.Found, kill: sleeper.Kill, group: memory_cgroup.MemoryCgroup
) -> None:
    """The record is of this kill, whole, and readable."""
    record: LogRecord = found.item
    has, told = found.attributes, collected.missing(found.attributes)
    absent = [
        key
        for key in oom_contract.ATTRIBUTES.split()
        if key not in has and not collected.is_told_missing(key, told)
    ]
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
    if "process.command_args" in has:  # else its page was gone, and oom.missing says so (above)
        words = ["comm=sleeper", "adj=900", "eat=56M", "say=ready", "pause"]
        assert has["process.command_args"][1:] == words
    assert has["oom.trigger.process.pid"] == kill.trigger
    assert has["oom.trigger.process.executable.name"] == "asker"
    assert has["oom.trigger.is_victim"] is False
    assert has["oom.constraint"] == "memcg"
    assert has["oom.limit.cgroup"] == has["process.linux.cgroup"] == group.name
    assert has["oom.limit.bytes"] == group.limit_bytes()
    assert abs(has["oom.victim.memory.anon"] - 56 * MIB) < MIB  # the kernel counts it per CPU
    assert has["oom.victim.score_adj"] == 900
    assert has["process.exit.code"] == 128 + signal.SIGKILL
    assert has["oom.capture.mode"] == "core"
    roles = {process["pid"]: process["role"] for process in has["oom.processes"]}
    assert (roles[kill.victim], roles[kill.trigger]) == ("victim", "trigger")
    assert set(has["oom.processes"][0]) == {"pid", "parent_pid", "name", "memory", "role"}


def check_span(found: collected.Found, log: collected.Found, kill: sleeper.Kill) -> None:
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


def check_surroundings(found: collected.Found) -> None:
    """Resource and scope say where it comes from and by which conventions."""
    assert found.resource["host.name"] == socket.gethostname()
    assert found.resource["os.type"] == "linux"
    assert {"host.arch", "os.description"} <= set(found.resource)
    assert SCHEMA_URL.fullmatch(found.schema_url)


def check_metric(collector: real_collector.Collector) -> None:
    """`oom.kills`, last seen, is as many as there are records of killed processes."""
    collected.until(
        lambda: collected.killed(collector) == collected.oom_kills(collector),
        "as many records as `oom.kills` says",
    )
    *_, last = (each for each in collected.metrics(collector) if each.item.name == "oom.kills")
    assert (last.item.unit, last.item.sum.is_monotonic) == ("{kill}", True)
    check_surroundings(last)


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
        with agent_process.running(agent_process.config(tmp_path, exporters), tmp_path) as agent:
            kill = sleeper.kill(group)
            log, span = collected.the_log(collector, group), collected.the_span(collector, group)
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
    exporters = agent_process.plain_grpc(collector.grpc_endpoint) | {
        "otlp_http": {"endpoint": collector.http_endpoint},
        "file": {"path": str(own)},
    }
    processors = {"resource": None, "batch": {"timeout": "100ms"}}
    text = agent_process.config(tmp_path, exporters, processors=processors)
    with agent_process.running(text, tmp_path) as agent:
        kills = [sleeper.kill(group) for _ in range(2)]
        stopped = agent.stop(signal.SIGINT)

    check_end(stopped, copies=3)
    found = collected.until(
        lambda: collected.at_least(collected.of_group(collected.logs(collector), group), 4),
        "two records twice",
    )
    pids = sorted(each.attributes["process.pid"] for each in found)
    assert pids == sorted([kill.victim for kill in kills] * 2)
    uids = [each.attributes["log.record.uid"] for each in found]
    assert len(set(uids)) == 2
    (first, *_) = [each for each in found if each.attributes["process.pid"] == kills[0].victim]
    check_record(first, kills[0], group)
    assert {each.attributes["oom.cgroup.kill_count"] for each in found} == {1, 2}
    assert [own.read_text().count(f'"stringValue":"{uid}"') for uid in set(uids)] == [1, 1]


def test_a_collector_that_comes_up_later_gets_each_record_once(
    collector_binary: pathlib.Path, group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    (port,) = real_collector.free_ports(1)
    retry = {"initial_interval": "300ms", "max_interval": "500ms"}
    exporters = agent_process.plain_grpc(f"127.0.0.1:{port}", retry_on_failure=retry)
    with agent_process.running(agent_process.config(tmp_path, exporters), tmp_path) as agent:
        kills = [sleeper.kill(group) for _ in range(3)]
        agent.wait_for_line("StatusRecoverableError")
        time.sleep(2)
        with real_collector.running(collector_binary, tmp_path, grpc_port=port) as collector:
            collected.until(
                lambda: len(collected.of_group(collected.spans(collector), group)) >= 3, "all spans"
            )
            collected.until(
                lambda: len(collected.of_group(collected.logs(collector), group)) >= 3,
                "all records",
            )
            check_end(agent.stop())
            found = collected.of_group(collected.logs(collector), group)

    assert sorted(each.attributes["process.pid"] for each in found) == sorted(
        kill.victim for kill in kills
    )


def test_a_stop_right_after_a_kill_still_delivers_it(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    text = agent_process.config(
        tmp_path,
        agent_process.plain_grpc(collector.grpc_endpoint),
        processors={"resource": None, "batch": None},
    )
    with agent_process.running(text, tmp_path) as agent:
        kill = sleeper.kill(group)
        stopped = agent.stop(signal.SIGTERM)

    check_end(stopped)
    log = collected.the_log(collector, group)
    check_record(log, kill, group)
    check_span(collected.the_span(collector, group), log, kill)


def test_a_kill_while_the_agent_is_down_is_reported_at_its_start(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    text = agent_process.config(tmp_path, agent_process.plain_grpc(collector.grpc_endpoint))
    with agent_process.running(text, tmp_path) as agent:
        sleeper.kill(group)
        check_end(agent.stop())
    sleeper.kill(group)
    with agent_process.running(text, tmp_path) as agent:
        sleeper.kill(group)
        check_end(agent.stop())

    found = collected.until(
        lambda: collected.at_least(collected.of_group(collected.logs(collector), group), 3),
        "three records",
    )
    told = [
        (each.attributes["oom.capture.mode"], each.attributes["oom.cgroup.kill_count"])
        for each in found
    ]
    assert sorted(told, key=lambda pair: pair[1]) == [("core", 1), ("counter", 2), ("core", 3)]
    (missed,) = [each for each in found if each.attributes["oom.capture.mode"] == "counter"]
    assert missed.attributes["oom.missed.reason"] == "agent_down"
    assert missed.attributes["oom.missed.count"] == 1
    assert missed.item.event_name == "oom.kill"
    spans = collected.until(
        lambda: collected.at_least(collected.of_group(collected.spans(collector), group), 2),
        "two spans",
    )
    assert len(spans) == 2


def test_the_standard_variable_names_the_collector(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    text = agent_process.config(tmp_path, {"otlp_grpc": None})
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.grpc_endpoint}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=e2e",
    }
    with agent_process.running(text, tmp_path, environment=environment) as agent:
        kill = sleeper.kill(group)
        check_end(agent.stop())

    log = collected.the_log(collector, group)
    check_record(log, kill, group)
    assert log.resource["deployment.environment.name"] == "e2e"


def test_health_is_good_only_while_kills_are_captured(
    collector: real_collector.Collector,
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
) -> None:
    """From the first 200 on a kill is captured; before it, and after the stop, there is none."""
    (port,) = real_collector.free_ports(1)
    extensions = {"health_check": {"endpoint": f"127.0.0.1:{port}"}}
    text = agent_process.config(
        tmp_path, agent_process.plain_grpc(collector.grpc_endpoint), extensions=extensions
    )
    with agent_process.started(text, tmp_path) as agent:
        seen: list[int | None] = []
        collected.until(
            lambda: seen.append(agent_process.health(port)) or seen[-1] == 200,
            "the health answer 200",
        )
        kill = sleeper.kill(group)
        stopped = agent.stop()
    assert set(seen[:-1]) <= {None, 503}
    assert agent_process.health(port) is None
    check_end(stopped)
    check_record(collected.the_log(collector, group), kill, group)


def test_health_is_never_good_where_nothing_can_be_captured(tmp_path: pathlib.Path) -> None:
    """A root without /proc and /sys: the agent says so and ends with status 1."""
    (port,) = real_collector.free_ports(1)
    text = agent_process.config(
        tmp_path,
        {"debug": None},
        extensions={"health_check": {"endpoint": f"127.0.0.1:{port}"}},
        oom={"root_path": str(tmp_path)},
    )
    with agent_process.started(text, tmp_path) as agent:
        seen = set()
        while agent.process.poll() is None:
            seen.add(agent_process.health(port))
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
    text = agent_process.config(
        tmp_path, agent_process.plain_grpc(collector.grpc_endpoint), telemetry={"metrics": own}
    )
    with agent_process.running(text, tmp_path) as agent:
        sleeper.kill(group)
        collected.until(
            lambda: collected.agent_metrics(collector), "a metric of the agent itself while it runs"
        )
        stopped = agent.stop()
    check_end(stopped)

    logs_sum = stopped.sums["logs"]
    collected.until(
        lambda: (
            collected.agent_metrics(collector).get("otel_oom_exporter_sent_log_records")
            == logs_sum["delivered"]
            and collected.agent_metrics(collector)
        ),
        "the last metrics",
    )
    told = collected.agent_metrics(collector)
    assert told["otel_oom_receiver_accepted_log_records"] == logs_sum["produced"]
    assert told["otel_oom_kernel_lost"] == 0
    assert told["otel_oom_process_memory_rss"] > 10 * MIB
    assert {"otel_oom_exporter_queue_size", "otel_oom_exporter_queue_capacity",
            "otel_oom_event_loop_lag_s", "otel_oom_oom_reconcile_difference",
            "otel_oom_process_cpu_seconds"} <= set(told)  # fmt: skip
