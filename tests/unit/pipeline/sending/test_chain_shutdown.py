"""The end of a chain of senders: what it holds is sent, or counted as dropped."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, virtual_loop
from doubles.sending import Destination, gauge, running
from doubles.virtual_loop import scenario

from otel_oom import errors
from otel_oom.pipeline.sending.chain import Exporter
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig


@scenario
async def test_shutdown_sends_what_is_held():
    async with running(Destination(), num_consumers=2) as (agent, exporter):
        for _ in range(7):
            await agent.consume(exporter, exporting.logs("a"))
        await exporter.shutdown()

        assert agent.sum() == {"delivered": 7}
        with pytest.raises(errors.Refused, match="stopped"):
            await agent.consume(exporter, exporting.logs("late"))
        assert agent.sum() == {"delivered": 7, "shutdown": 1}


@scenario
async def test_at_shutdown_each_request_has_one_last_try():
    destination = Destination(*[errors.Retryable("down")] * 99, takes_s=0.5)
    async with running(destination, num_consumers=1) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(2)
        assert len(destination.requests) == 1
        await exporter.shutdown()

        assert len(destination.requests) == 4
        assert virtual_loop.now_s() == 3.5
        assert agent.sum() == {"shutdown": 3}


@scenario
async def test_shutdown_that_runs_out_of_time_counts_the_rest_as_dropped():
    destination = Destination(takes_s=1000)
    async with running(destination, num_consumers=2) as (agent, exporter):
        for _ in range(5):
            await agent.consume(exporter, exporting.logs("a", "b"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await exporter.shutdown()

        assert virtual_loop.now_s() == 10
        assert agent.sum() == {"shutdown": 10}
        assert destination.now == 0
        assert gauge(agent) == 0


@scenario
async def test_shutdown_is_safe_before_the_start_and_twice():
    agent = exporting.Agent()
    exporter = Exporter(
        agent.settings, Destination(), queue=QueueConfig(), retry=RetryConfig(), timeout_s=0
    )
    await agent.consume(exporter, exporting.logs("a"))
    await exporter.shutdown()
    await exporter.shutdown()

    assert agent.sum() == {"shutdown": 1}
