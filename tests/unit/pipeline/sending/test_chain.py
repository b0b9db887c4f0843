"""The chain of senders: accounting at every instant, parts of a batch, what is logged."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, virtual_loop
from doubles.sending import Destination, running
from doubles.virtual_loop import scenario

from otel_oom import errors
from otel_oom.pipeline.component import State
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.request import Answer


@scenario
async def test_what_is_taken_is_held_and_then_delivered():
    async with running(Destination()) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a", "b"))

        assert agent.sum() == {"held": 2}
        await asyncio.sleep(2)
        assert agent.sum() == {"delivered": 2}
        assert agent.counter("exporter_sent") == 2


@scenario
async def test_the_three_signals_are_accounted_apart():
    async with running(Destination(Answer(rejected=1)), num_consumers=3) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await agent.consume(exporter, exporting.spans("b", "c"))
        await agent.consume(exporter, exporting.points(1, 2, 3))
        await asyncio.sleep(2)

        assert agent.sum(Signal.LOGS) == {"rejected": 1}
        assert agent.sum(Signal.TRACES) == {"delivered": 2}
        assert agent.sum(Signal.METRICS) == {"delivered": 3}


@scenario
async def test_the_body_is_the_batch_encoded_once_and_the_same_in_each_try():
    destination = Destination(errors.Retryable("down"))
    batch = exporting.logs("a")
    async with running(destination) as (agent, exporter):
        await agent.consume(exporter, batch)
        await asyncio.sleep(10)

        first, second = destination.requests
        assert first is second
        assert first.body == batch.data.SerializeToString()
        assert agent.sum() == {"delivered": 1}


@scenario
async def test_partial_success_is_rejected_and_not_retried():
    destination = Destination(Answer(rejected=2, message="too old"))
    async with running(destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a", "b", "c"))
        await asyncio.sleep(100)

        assert len(destination.requests) == 1
        assert agent.sum() == {"delivered": 1, "rejected": 2}
        assert agent.counter("exporter_sent") == 1
        assert agent.counter("exporter_send_failed") == 2


@pytest.mark.parametrize("rejected", [-5, 0, 3, 10**12])
def test_a_lying_count_of_rejected_items_does_not_break_the_sum(rejected):
    async def main():
        async with running(Destination(Answer(rejected))) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a", "b", "c"))
            await asyncio.sleep(2)
            assert agent.sum() == ({"rejected": 3} if rejected > 0 else {"delivered": 3})

    virtual_loop.run(main())


@scenario
async def test_a_permanent_refusal_is_rejected():
    async with running(Destination(errors.Permanent("bad"))) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(2)

        assert agent.sum() == {"rejected": 1}
        assert agent.counter("exporter_send_failed") == 1


@scenario
async def test_giving_up_is_dropped():
    destination = Destination(*[errors.Retryable("down")] * 99, takes_s=0)
    async with running(destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(299)
        assert agent.sum() == {"retries_exhausted": 1}

        await agent.consume(exporter, exporting.logs("b"))
        assert agent.sum() == {"retries_exhausted": 1, "held": 1}


@scenario
async def test_a_try_that_takes_too_long_is_cancelled_and_tried_again():
    destination = Destination(takes_s=10)
    async with running(destination, timeout_s=4) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(6)  # 4 s, and more for its weight
        assert destination.now == 0
        assert agent.sum() == {"held": 1}

        destination.takes_s = 1
        await asyncio.sleep(6)
        assert agent.sum() == {"delivered": 1}


@scenario
async def test_a_bug_in_a_transport_costs_its_request_and_nothing_else():
    destination = Destination(ZeroDivisionError("bug"))
    async with running(destination, num_consumers=1) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await agent.consume(exporter, exporting.logs("b"))
        await asyncio.sleep(3)

        assert agent.sum() == {"internal_error": 1, "delivered": 1}


@scenario
async def test_a_batch_that_is_too_large_goes_in_parts():
    destination = Destination()
    batch = exporting.logs(*"abcdefgh")
    async with running(destination, max_bytes=200, num_consumers=10) as (agent, exporter):
        await agent.consume(exporter, batch)
        await asyncio.sleep(2)

        assert len(destination.requests) > 1
        assert all(len(request.body) <= 200 for request in destination.requests)
        assert agent.sum() == {"delivered": 8}


@scenario
async def test_an_item_that_no_request_can_hold_is_dropped_and_the_others_go():
    async with running(Destination(), max_bytes=1000, num_consumers=10) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a", "b" * 2000, "c"))
        await asyncio.sleep(2)

        assert agent.sum() == {"delivered": 2, "too_large": 1}


@scenario
async def test_of_a_split_batch_the_parts_that_the_queue_refuses_are_dropped():
    queue = {"queue_size": 2, "num_consumers": 1}
    async with running(Destination(), max_bytes=200, **queue) as (agent, exporter):
        await agent.consume(exporter, exporting.logs(*"abcdefgh"))

        sums = agent.sum()
        assert sums["queue_full"] + sums["held"] == 8
        assert agent.counter("exporter_enqueue_failed") == sums["queue_full"] > 0


@scenario
async def test_an_empty_batch_is_not_sent():
    destination = Destination()
    async with running(destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs())
        await asyncio.sleep(2)

        assert destination.requests == []


def test_a_destination_that_stays_away_is_logged_once_a_minute(caplog):
    async def main():
        async with running(Destination(*[errors.Retryable("down")] * 20)) as (agent, exporter):
            caplog.set_level("INFO")
            await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(30)
            assert agent.states() == [State.RECOVERABLE_ERROR]
            assert len(caplog.records) == 1
            assert "otlp_grpc/test cannot send and tries again: down" in caplog.text
            await asyncio.sleep(100)
            assert 1 < len(caplog.records) <= 3

    virtual_loop.run(main())


def test_a_destination_that_comes_back_is_told_once(caplog):
    async def main():
        async with running(Destination(errors.Retryable("down"))) as (agent, exporter):
            caplog.set_level("INFO")
            for _ in range(3):
                await agent.consume(exporter, exporting.logs("a"))
                await asyncio.sleep(10)
            assert agent.states() == [State.RECOVERABLE_ERROR, State.OK]
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]

    virtual_loop.run(main())


def test_a_warning_of_the_destination_is_logged_and_everything_delivered(caplog):
    async def main():
        async with running(Destination(Answer(0, "slow down"))) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(2)
            assert agent.sum() == {"delivered": 1}

    virtual_loop.run(main())
    assert "with a warning of the destination: slow down" in caplog.text
