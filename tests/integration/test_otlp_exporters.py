"""Both OTLP exporters against a server that misbehaves: what both transports must do."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, otlp_server
from doubles.exporting import settled
from doubles.otlp_sides import exporter_of, outcome

from otel_oom import errors
from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline.component import State
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig

pytestmark = pytest.mark.usefixtures("no_proxies")


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_every_signal_arrives_as_it_was_sent(side, compression):
    batches = [exporting.logs("a", "b"), exporting.spans("c"), exporting.points(1, 2, 3)]
    config = {**side.config(), "compression": compression}
    async with exporter_of(side.module, **config) as (agent, exporter):
        for batch in batches:
            await agent.consume(exporter, batch)
            assert await settled(agent, batch.signal) == {"delivered": batch.items}

    sent = [batch.data.SerializeToString(deterministic=True) for batch in batches]
    arrived = [r.message.SerializeToString(deterministic=True) for r in side.server.received]
    assert arrived == sent
    assert [r.signal for r in side.server.received] == ["logs", "traces", "metrics"]


async def test_headers_and_the_agents_name_are_sent(side):
    headers = {"X-Api-Key": "s3cret"}
    await outcome(side, headers=headers)

    arrived = side.server.received[0].headers
    assert arrived["x-api-key"] == "s3cret"
    assert arrived["user-agent"].startswith("otel-oom/1.2.3")


async def test_partial_success_is_counted_as_rejected_and_never_retried(side):
    body = otlp_server.partial_success(2, "two are too old")
    sums, requests, agent = await outcome(side, side.ok(body))

    assert (sums, requests) == ({"delivered": 1, "rejected": 2}, 1)
    assert "two are too old" in agent.statuses[0].detail


async def test_a_warning_without_a_rejection_is_delivered(side, caplog):
    sums, requests, _ = await outcome(side, side.ok(otlp_server.partial_success(0, "slow down")))

    assert (sums, requests) == ({"delivered": 3}, 1)
    assert "slow down" in caplog.text


async def test_a_success_whose_body_is_garbage_is_rejected_and_not_sent_again(side):
    sums, requests, agent = await outcome(side, side.ok(b"\xff\xff garbage"))

    assert (sums, requests) == ({"rejected": 3}, 1)
    assert "no OTLP" in agent.statuses[0].detail


async def test_a_success_with_a_huge_body_is_rejected_and_not_read(side):
    body = b"\x00" * (limits.MAX_RESPONSE_BYTES + 1)
    sums, requests, _ = await outcome(side, side.ok(body))

    assert (sums, requests) == ({"rejected": 3}, 1)


async def test_a_server_that_hangs_is_tried_again_after_the_timeout(side):
    sums, requests, _ = await outcome(side, side.hang(), side.ok(), timeout=0.2)

    assert (sums, requests) == ({"delivered": 3}, 2)


async def test_a_server_that_is_not_there_yet_gets_it_when_it_is(side):
    port = side.server.port if side.name == "http" else int(side.server.address.split(":")[1])
    config = side.config()
    await side.server.stop()
    async with exporter_of(side.module, **config) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        while State.RECOVERABLE_ERROR not in agent.states():
            await asyncio.sleep(0.005)
        assert agent.sum() == {"held": 1}
        await side.server.start(None, port)
        assert await settled(agent) == {"delivered": 1}
        assert agent.states()[-1] is State.OK


async def test_a_name_that_does_not_resolve_is_tried_again(side):
    endpoint = "http://nowhere.invalid:4317"
    config = {"endpoint": endpoint, "retry_on_failure": RetryConfig(enabled=False)}
    sums, _, agent = await outcome(side, **config)

    assert sums == {"retries_exhausted": 3}
    assert "nowhere.invalid" in agent.statuses[0].detail


async def test_shutdown_does_not_wait_for_a_server_that_hangs(side):
    side.server.script[:] = [side.hang()] * 9
    async with exporter_of(
        side.module,
        **side.config(),
    ) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await agent.consume(exporter, exporting.logs("b"))
        await side.server.wait_for(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await exporter.shutdown()

        assert agent.sum() == {"shutdown": 2}


async def test_at_shutdown_each_request_has_one_last_try(side):
    side.server.script[:] = [side.unavailable()] * 9
    slow = RetryConfig(initial_interval=100)
    config = {**side.config(), "retry_on_failure": slow}
    async with exporter_of(side.module, **config) as (agent, exporter):
        for name in "abc":
            await agent.consume(exporter, exporting.logs(name))
        while not agent.statuses:
            await asyncio.sleep(0.005)
        await exporter.shutdown()

        assert agent.sum() == {"shutdown": 3}
        assert len(side.server.received) == 4


async def test_many_requests_at_once_all_arrive(side):
    config = {**side.config(), "sending_queue": QueueConfig(num_consumers=10)}
    async with exporter_of(side.module, **config) as (agent, exporter):
        for index in range(200):
            await agent.consume(exporter, exporting.logs(str(index)))
        assert await settled(agent) == {"delivered": 200}

    names = [
        record.event_name
        for received in side.server.received
        for record in received.message.resource_logs[0].scope_logs[0].log_records
    ]
    assert sorted(names, key=int) == [str(index) for index in range(200)]


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http])
async def test_shutdown_is_safe_before_the_start_and_twice(module):
    agent = exporting.Agent()
    exporter = module.FACTORY.create(agent.settings, module.Config())

    await exporter.shutdown()
    await exporter.shutdown()


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http])
@pytest.mark.parametrize(
    "name",
    ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_HEADERS"],
)
async def test_a_bad_variable_is_named(module, name, monkeypatch):
    monkeypatch.setenv(name, "so lala")

    with pytest.raises(errors.ComponentError, match=name):
        module.FACTORY.create(exporting.Agent().settings, module.Config())
