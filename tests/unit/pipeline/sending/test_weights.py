"""The queue in memory serves by weight, and when it is full the lowest weight goes first."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting
from doubles.sending import Destination, gauge, running
from doubles.virtual_loop import scenario

from otel_oom import errors
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.retry import RetryConfig

FOREVER = RetryConfig(randomization_factor=0, max_elapsed_time=0)


def of(weight, *names):
    return exporting.logs(*(names or ("a",))).weighing(weight)


def weights_of(destination):
    return [request.weight for request in destination.arrived]


@scenario
async def test_a_kill_waits_for_no_other():
    destination = Destination()
    async with running(destination) as (agent, exporter):
        for _ in range(50):
            await agent.consume(exporter, of(3))
        await asyncio.sleep(0.5)
        await agent.consume(exporter, of(10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert weights_of(destination) == [3, 10]


@scenario
async def test_a_kill_is_sent_while_what_is_lower_is_tried_again_and_again():
    away = errors.Retryable("away")
    destination = Destination(away, away)
    async with running(destination, retry=FOREVER) as (agent, exporter):
        await agent.consume(exporter, of(3, "low"))
        await agent.consume(exporter, of(5, "high"))
        await asyncio.sleep(3.5)  # the tries of both have failed; each waits for its next one
        await agent.consume(exporter, of(10, "kill"))
        await asyncio.sleep(2)
        assert agent.sum() == {"delivered": 1, "held": 2}
        await asyncio.sleep(60)
        assert agent.sum() == {"delivered": 3}


@scenario
async def test_lower_weights_share_their_calls_and_each_keeps_its_order():
    destination = Destination()
    async with running(destination) as (agent, exporter):
        for number in range(60):
            await agent.consume(exporter, of(5, f"five {number:02}"))
            await agent.consume(exporter, of(3, f"three {number:02}"))
        await asyncio.sleep(51)
        served = weights_of(destination)[:50]
        assert (served.count(5), served.count(3)) == (30, 20)
        assert destination.most == 1
        await asyncio.sleep(100)
    for weight in (5, 3):
        bodies = [request.body for request in destination.arrived if request.weight == weight]
        assert len(bodies) == 60
        assert bodies == sorted(bodies)


@scenario
async def test_each_weight_may_have_its_own_number_of_senders():
    destination = Destination()
    queue = {"num_consumers_by_weight": {"10": 4, "3": 2}}
    async with running(destination, **queue) as (agent, exporter):
        for weight in (10, 5, 3):
            for _ in range(8):
                await agent.consume(exporter, of(weight))
        await asyncio.sleep(0.5)
        assert sorted(weights_of(destination)) == [3, 5, 10, 10, 10, 10]  # two calls are shared
        await asyncio.sleep(20)


@scenario
async def test_what_is_joined_is_of_one_weight():
    destination = Destination(takes_s=0)
    batch = BatchConfig(min_size=100, flush_timeout=1.0)
    async with running(destination, batch=batch) as (agent, exporter):
        for weight in (5, 10, 5, 10):
            await agent.consume(exporter, of(weight))
        await asyncio.sleep(2)
    assert sorted((one.weight, one.items) for one in destination.arrived) == [(5, 2), (10, 2)]


# --- when it is full -------------------------------------------------------------------------


@scenario
async def test_what_came_last_of_the_lowest_weight_makes_room():
    destination = Destination()
    async with running(destination, queue_size=5) as (agent, exporter):
        for weight, name in ((3, "m1"), (3, "m2"), (3, "m3"), (5, "s1"), (5, "s2")):
            await agent.consume(exporter, of(weight, name))
        await asyncio.sleep(0)
        await agent.consume(exporter, of(10, "kill"))
        assert agent.sum() == {"held": 5, "evicted": 1}
        await agent.consume(exporter, of(5, "s3"))
        assert agent.sum() == {"held": 5, "evicted": 2}
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, of(3, "m4"))
        assert agent.counter("exporter_send_failed") == 2
        await asyncio.sleep(20)
        assert agent.sum() == {"delivered": 5, "evicted": 2, "queue_full": 1}
    names = [request.body for request in destination.arrived]
    assert all(any(name in body for body in names) for name in (b"m1", b"kill", b"s3"))
    assert not any(b"record m2" in body or b"record m3" in body for body in names)


@scenario
async def test_what_is_on_its_way_is_not_pushed_out():
    async with running(Destination(), queue_size=1) as (agent, exporter):
        await agent.consume(exporter, of(3))
        await asyncio.sleep(0.5)
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, of(10))
        await asyncio.sleep(2)
        assert agent.sum() == {"delivered": 1, "queue_full": 1}


@scenario
async def test_a_request_that_would_not_fit_though_all_lower_went_pushes_nothing_out():
    queue = {"sizer": "items", "queue_size": 10, "reserve": 0.0}
    async with running(Destination(), **queue) as (agent, exporter):
        await agent.consume(exporter, of(3, *"abcd"))
        await agent.consume(exporter, of(9, *"abcd"))
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, of(5, *"abcdefg"))
        assert agent.sum() == {"held": 8, "queue_full": 7}


@scenario
async def test_only_kills_have_the_reserve():
    async with running(Destination(), queue_size=10, reserve=0.3) as (agent, exporter):
        for _ in range(7):
            await agent.consume(exporter, of(9))
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, of(9))
        for _ in range(3):
            await agent.consume(exporter, of(10))
        assert agent.sum() == {"held": 10, "queue_full": 1}
        assert gauge(agent) == 10


@scenario
async def test_every_limit_counts():
    queue = {"queue_size": 100, "max_items": 4, "reserve": 0.0}
    async with running(Destination(), **queue) as (agent, exporter):
        await agent.consume(exporter, of(5, *"abc"))
        with pytest.raises(errors.QueueFull, match="4 items"):
            await agent.consume(exporter, of(5, *"ab"))
        with pytest.raises(errors.QueueFull, match="can never fit"):
            await agent.consume(exporter, of(5, *"abcde"))


@scenario
async def test_who_waits_for_room_pushes_nothing_out():
    queue = {"queue_size": 2, "block_on_overflow": True}
    async with running(Destination(), **queue) as (agent, exporter):
        for weight in (3, 3, 10):
            await agent.consume(exporter, of(weight))
        await asyncio.sleep(10)
        assert agent.sum() == {"delivered": 3}


@scenario
async def test_what_waits_to_be_joined_can_be_pushed_out():
    destination = Destination(takes_s=0)
    queue = {"batch": BatchConfig(min_size=100, flush_timeout=5.0), "queue_size": 3}
    async with running(destination, **queue) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, of(3))
        for _ in range(3):
            await agent.consume(exporter, of(10))
        assert agent.sum() == {"held": 3, "evicted": 3}
        await asyncio.sleep(10)
    assert [(one.weight, one.items) for one in destination.arrived] == [(10, 3)]


@scenario
async def test_several_destinations_have_queues_of_their_own_and_the_bytes_in_common():
    up, away = Destination(takes_s=0), Destination(*[errors.Retryable("away")] * 3, takes_s=0)
    async with running(up) as (agent, first), running(away, retry=FOREVER) as (other, second):
        batch = exporting.logs("a", "b")
        await agent.consume(first, batch)
        await other.consume(second, batch)
        await asyncio.sleep(1)
        assert (len(up.requests), len(away.requests)) == (1, 1)
        assert up.requests[0].body is away.requests[0].body
        await asyncio.sleep(100)
    assert len(away.requests) == 4
