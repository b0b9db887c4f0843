"""`sending_queue.batch` over real gRPC and HTTP: joined bodies are what a server can read."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, otlp_server

from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig


def grpc_parts():
    server = otlp_server.GrpcServer()
    script = [
        otlp_server.grpc_status(14),
        otlp_server.grpc_reply(otlp_server.partial_success(4, "four")),
    ]
    return server, script, otlp_grpc, lambda: {"endpoint": f"http://{server.address}"}


def http_json_parts():
    server = otlp_server.HttpServer()
    script = [
        otlp_server.http_reply(503),
        otlp_server.http_reply(200, otlp_server.partial_success(4, "four")),
    ]
    return server, script, otlp_http, lambda: {"endpoint": server.url, "encoding": "json"}


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("parts", [grpc_parts, http_json_parts])
async def test_what_waits_arrives_as_one_request_that_is_counted_whole(parts):
    server, script, module, place = parts()
    batches = [exporting.logs(str(number), "x", resource=f"r{number}") for number in range(50)]
    agent = exporting.Agent(module.FACTORY.type_name)
    async with otlp_server.serving(server):
        server.script[:] = script
        config = module.Config(
            **place(),
            sending_queue=QueueConfig(
                num_consumers=1, batch=BatchConfig(min_size=100, flush_timeout=3600.0)
            ),
            retry_on_failure=RetryConfig(initial_interval=0.01, max_interval=0.02),
        )
        exporter = module.FACTORY.create(agent.settings, config)
        await exporter.start()
        for batch in batches:
            await agent.consume(exporter, batch)
        await agent.consume(exporter, exporting.spans("y"))
        async with asyncio.timeout(30):
            await server.wait_for(2)
            while agent.sum() == {"held": 100}:
                await asyncio.sleep(0.005)
        assert agent.sum() == {"delivered": 96, "rejected": 4}
        assert agent.sum(Signal.TRACES) == {"held": 1}
        await exporter.shutdown()

    assert agent.sum(Signal.TRACES) == {"delivered": 1}
    refused, taken, last = server.received
    assert refused.message == taken.message
    wanted = [resource for batch in batches for resource in batch.data.resource_logs]
    assert list(taken.message.resource_logs) == wanted
    assert last.signal == "traces"
