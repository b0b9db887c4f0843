"""`sending_queue.batch`: what is joined, when, how much, and what becomes of it."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting
from doubles.sending import ENCODINGS, MAKE, Destination, batching, gauge
from doubles.virtual_loop import scenario

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.request import Answer

LONG_S = 3600.0


@scenario
async def test_an_encoding_that_nobody_can_join_is_refused():
    with pytest.raises(errors.ComponentError, match=r"`sending_queue\.batch` cannot be used"):
        async with batching(Destination(takes_s=0), BatchConfig(), encode=lambda message: b"own"):
            pass


# --- when ----------------------------------------------------------------------------------


@scenario
async def test_a_full_batch_goes_at_once():
    destination = Destination(takes_s=0)
    config = BatchConfig(min_size=5, flush_timeout=LONG_S)
    async with batching(destination, config) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("a", "b"))
        await asyncio.sleep(1)

        assert (destination.items(), destination.at_s) == ([6], [0.0])
        assert agent.sum() == {"delivered": 6}
        assert agent.counter("exporter_sent") == 6


@scenario
async def test_what_waits_goes_after_the_time_of_the_first():
    destination = Destination(takes_s=0)
    async with batching(destination, BatchConfig(flush_timeout=2.0)) as (agent, exporter):
        for _ in range(2):
            await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(1.5)
        assert (destination.items(), destination.at_s) == ([2], [2.0])

        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(9)
        assert (destination.items(), destination.at_s) == ([2, 1], [2.0, 5.0])


@scenario
async def test_shutdown_sends_what_waits_at_once():
    destination = Destination(takes_s=0)
    async with batching(destination, BatchConfig(flush_timeout=LONG_S)) as (agent, exporter):
        for make in MAKE.values():
            await agent.consume(exporter, make([1]))
            await agent.consume(exporter, make([2]))
        assert agent.sum() == {"held": 2}
        await exporter.shutdown()

        assert (destination.items(), destination.at_s) == ([2, 2, 2], [0.0, 0.0, 0.0])


@scenario
async def test_each_signal_has_a_batch_and_a_time_of_its_own():
    destination = Destination(takes_s=0)
    config = BatchConfig(min_size=3, flush_timeout=4.0)
    async with batching(destination, config) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(1)
        await agent.consume(exporter, exporting.spans("b", "c"))
        await agent.consume(exporter, exporting.spans("d"))
        await asyncio.sleep(9)

        assert [one.signal for one in destination.arrived] == [Signal.TRACES, Signal.LOGS]
        assert (destination.items(), destination.at_s) == ([3, 1], [1.0, 4.0])


@scenario
async def test_while_the_destination_is_slow_the_next_batch_grows_until_it_is_full():
    destination = Destination(takes_s=100)
    async with batching(destination, BatchConfig(min_size=5)) as (agent, exporter):
        for _ in range(8):
            await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(1)
        await asyncio.sleep(500)

        assert destination.items() == [1, 5, 2]


@scenario
async def test_without_it_each_request_goes_as_it_came():
    destination = Destination(takes_s=1)
    async with batching(destination) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(9)

        assert (destination.items(), destination.at_s) == ([1, 1, 1], [0.0, 1.0, 2.0])


# --- how much ------------------------------------------------------------------------------


@scenario
async def test_max_size_is_not_exceeded_and_a_larger_request_goes_alone():
    destination = Destination(takes_s=0)
    config = BatchConfig(min_size=4, max_size=4)
    async with batching(destination, config) as (agent, exporter):
        for items in (3, 2, 7, 1):
            await agent.consume(exporter, exporting.logs(*"abcdefg"[:items]))
        await asyncio.sleep(1)

        assert destination.items() == [3, 2, 7, 1]


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@scenario
async def test_bytes_and_the_limit_of_a_request_are_not_exceeded(encode):
    size = len(encode(exporting.logs("a").data))
    destination = Destination(takes_s=0)
    config = BatchConfig(sizer="bytes", min_size=9 * size)
    async with batching(
        destination, config, encode=encode, max_bytes=3 * size, sizer="bytes", queue_size=9 * size
    ) as (agent, exporter):
        for _ in range(7):
            await agent.consume(exporter, exporting.logs("a"))
        assert gauge(agent) == 7 * size
        await asyncio.sleep(1)

        assert destination.items() == [3, 3, 1]
        assert all(len(request.body) <= 3 * size for request in destination.arrived)


# --- what became of it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "expected", "queue_size"),
    [
        ([Answer(rejected=3)], {"delivered": 1, "rejected": 3}, 0),
        ([errors.Permanent("no")], {"rejected": 4}, 0),
        ([errors.GaveUp("no", "retries_exhausted")], {"retries_exhausted": 4}, 0),
        ([errors.Retryable("later")], {"delivered": 4}, 0),
        ([errors.Retryable("later")] * 99, {"held": 4}, 2),
    ],
)
@scenario
async def test_the_fate_of_a_joined_request_is_that_of_all_its_items(answers, expected, queue_size):
    destination = Destination(*answers, takes_s=0)
    async with batching(destination, BatchConfig()) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a", "b", "c"))
        await agent.consume(exporter, exporting.logs("d"))
        assert gauge(agent) == 2
        await asyncio.sleep(60)

        assert destination.items() == [4]
        assert agent.sum() == expected
        assert gauge(agent) == queue_size


@scenario
async def test_shutdown_that_runs_out_of_time_drops_what_is_sent_and_what_waits():
    config = BatchConfig(min_size=2, flush_timeout=LONG_S)
    async with batching(Destination(takes_s=LONG_S), config) as (agent, exporter):
        for _ in range(5):
            await agent.consume(exporter, exporting.logs("a"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await exporter.shutdown()

        assert agent.sum() == {"shutdown": 5}
        assert gauge(agent) == 0
