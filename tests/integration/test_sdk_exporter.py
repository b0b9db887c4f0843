"""Installed SDK exporters behind our queue, retry and accounting: real ones, over real sockets."""

from __future__ import annotations

import asyncio
import json
import threading
from http import server as http_server

import pytest
from doubles import (
    agent_process,
    blocking_exporter,
    exporting,
    memory_cgroup,
    otlp_server,
    sdk_rich,
)
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from otel_oom import errors
from otel_oom.exporters import sdk
from otel_oom.pipeline.component import State
from otel_oom.pipeline.data import MESSAGES, Batch, Signal
from otel_oom.pipeline.sending.queue import QueueConfig

MICROSECONDS = (sdk_rich.T0 + 500) // 1000

pytestmark = pytest.mark.usefixtures("no_proxies")


def http(server, **options):
    """The configuration of the official HTTP exporter, a URL for each signal."""
    own = {f"{s}_options": {"endpoint": f"{server.url}/v1/{s}", **options} for s in Signal}
    return {"exporter": "otlp_proto_http", **own}


@pytest.mark.parametrize("signal", Signal)
async def test_everything_arrives_through_the_official_http_exporter(signal):
    server = otlp_server.HttpServer()
    async with otlp_server.serving(server), exporting.started(sdk, **http(server)) as (agent, one):
        await agent.consume(one, Batch.of(sdk_rich.ALL[signal]))
        assert set(await exporting.settled(agent, signal)) == {"delivered"}

    (received,) = server.received
    assert sdk_rich.same(received.message, MESSAGES[signal]) == sdk_rich.ALL[signal]


@pytest.mark.parametrize("signal", Signal)
async def test_everything_arrives_through_the_official_grpc_exporter(signal):
    server = otlp_server.GrpcServer()
    async with otlp_server.serving(server):
        options = {"endpoint": server.address, "insecure": True}
        config = {"exporter": "otlp_proto_grpc", "options": options}
        async with exporting.started(sdk, **config) as (agent, one):
            await agent.consume(one, Batch.of(sdk_rich.ALL[signal]))
            assert set(await exporting.settled(agent, signal)) == {"delivered"}

    (received,) = server.received
    assert sdk_rich.same(received.message, MESSAGES[signal]) == sdk_rich.ALL[signal]


class Zipkin(http_server.BaseHTTPRequestHandler):
    """Takes Zipkin's spans."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.spans += json.loads(body)
        self.send_response(202)
        self.end_headers()

    def log_message(self, *_):
        pass


async def test_an_exporter_of_another_model_than_otlp():
    """Zipkin's, which tells microseconds and no more, takes spans only, and no bytes."""
    traces = sdk_rich.same(sdk_rich.TRACES, type(sdk_rich.TRACES))
    for span in traces.resource_spans[0].scope_spans[0].spans:
        for part in (span, *span.events):
            del part.attributes[4:]
    with http_server.HTTPServer(("127.0.0.1", 0), Zipkin) as server:
        server.spans = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api/v2/spans"
        config = {"exporter": "zipkin_json", "options": {"endpoint": url}}
        async with exporting.started(sdk, **config) as (agent, one):
            await agent.consume(one, Batch.of(traces))
            assert await exporting.settled(agent, Signal.TRACES) == {"delivered": 5}
        server.shutdown()

    assert {span["traceId"] for span in server.spans} == {sdk_rich.TRACE.hex()}
    assert {span["timestamp"] for span in server.spans} == {MICROSECONDS}
    assert server.spans[0]["annotations"][0]["timestamp"] == MICROSECONDS


async def test_a_destination_that_is_away_gets_it_later():
    server = otlp_server.HttpServer()
    server.script += [otlp_server.http_reply(400)] * 7
    async with otlp_server.serving(server), exporting.started(sdk, **http(server)) as (agent, one):
        await agent.consume(one, exporting.logs("a"))
        assert await exporting.settled(agent) == {"delivered": 1}

    assert len(server.received) == 8
    assert State.RECOVERABLE_ERROR in agent.states()


async def test_a_request_that_fails_while_others_are_taken_is_rejected_with_the_exporters_words():
    server = otlp_server.HttpServer()
    server.next_step = lambda default: (
        otlp_server.http_reply(400)
        if server.received[-1].message.resource_spans[0].scope_spans[0].spans[0].name == "bad"
        else default
    )
    async with otlp_server.serving(server), exporting.started(sdk, **http(server)) as (agent, one):
        await agent.consume(one, exporting.spans("bad"))
        while "rejected" not in agent.sum(Signal.TRACES):
            await agent.consume(one, exporting.spans("good"))
            await asyncio.sleep(0.01)
        counts = await exporting.settled(agent, Signal.TRACES)

    assert counts["rejected"] == 1
    assert counts["delivered"] >= 5
    assert any("code: 400" in status.detail for status in agent.statuses)


async def test_a_slow_call_holds_up_nobody_and_is_not_repeated():
    release, server = asyncio.Event(), otlp_server.HttpServer()

    async def slow(writer):
        await release.wait()
        await otlp_server.http_reply()(writer)

    server.script.append(slow)
    late = {"timeout": 0.01}
    async with (
        otlp_server.serving(server),
        exporting.started(sdk, **http(server, timeout=60), **late) as (agent, one),
    ):
        await agent.consume(one, exporting.logs("a"))
        async with asyncio.timeout(30):
            while not any("no answer within" in status.detail for status in agent.statuses):
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)  # further tries time out
        release.set()
        assert await exporting.settled(agent) == {"delivered": 1}

    assert len(server.received) == 1


async def test_points_that_the_sdk_cannot_hold_are_rejected_and_the_others_sent():
    server = otlp_server.HttpServer()
    batch = exporting.points(1, 2)
    scope = batch.data.resource_metrics[0].scope_metrics[0]
    scope.metrics.append(pb.Metric(name="q", summary=pb.Summary(data_points=[{"count": 1}])))
    async with otlp_server.serving(server), exporting.started(sdk, **http(server)) as (agent, one):
        await agent.consume(one, Batch.of(batch.data))
        assert await exporting.settled(agent, Signal.METRICS) == {"delivered": 2, "rejected": 1}

    assert any("a point of a summary (1)" in status.detail for status in agent.statuses)


async def test_what_the_sdk_cannot_be_given_is_rejected():
    server = otlp_server.HttpServer()
    batch = exporting.points(1)
    batch.data.resource_metrics[0].scope_metrics[0].metrics[0].sum.aggregation_temporality = 9
    async with otlp_server.serving(server), exporting.started(sdk, **http(server)) as (agent, one):
        await agent.consume(one, batch)
        assert await exporting.settled(agent, Signal.METRICS) == {"rejected": 1}
        await agent.consume(one, exporting.points(1))
        assert await exporting.settled(agent, Signal.METRICS) == {"delivered": 1, "rejected": 1}


async def test_a_wrong_argument_stops_the_start():
    with pytest.raises(
        errors.ComponentError, match=r"cannot be made for logs: TypeError.*nonsense"
    ):
        async with exporting.started(sdk, exporter="console", options={"nonsense": 1}):
            pass


@pytest.mark.root
def test_a_real_kill_on_the_console_and_over_http(tmp_path):
    """A real agent: its own process, the console's exporter, and the end of both."""
    config = agent_process.config(tmp_path, {"sdk/console": {"exporter": "console"}})
    with memory_cgroup.temporary() as group:
        group.set_limit(32 << 20)
        with agent_process.running(config, tmp_path) as agent:
            pid = memory_cgroup.kill(group)
            stopped = agent.stop()

    assert stopped.status == 0
    assert stopped.sums["logs"]["delivered"] >= 1
    assert f'"process.pid": {pid}' in stopped.stdout
    assert '"name": "oom.kill"' in stopped.stdout, "its span, too"


@pytest.mark.root
def test_an_exporter_that_never_returns_does_not_keep_the_agent_from_stopping(tmp_path):
    path = blocking_exporter.installed(tmp_path)
    pipelines = {"logs": {"receivers": ["oom"], "exporters": ["sdk"]}}
    config = json.dumps(
        {
            "receivers": {"oom": {"state_directory": str(tmp_path / "state")}},
            "exporters": {"sdk": {"exporter": blocking_exporter.NAME, "timeout": "100ms"}},
            "service": {"pipelines": pipelines, "shutdown_timeout": "100ms"},
        }
    )
    environment = {"PYTHONPATH": path}
    with memory_cgroup.temporary() as group:
        group.set_limit(32 << 20)
        with agent_process.running(config, tmp_path, environment=environment) as agent:
            memory_cgroup.kill(group)
            agent.wait_for_line("no answer within")
            stopped = agent.stop()

    assert stopped.sums["logs"]["dropped"] >= 1, "counted, as the sum closes"


def test_one_request_that_fails_does_not_hold_up_the_rest_by_default():
    assert sdk.Config(exporter="console").sending_queue == QueueConfig(num_consumers=10)
