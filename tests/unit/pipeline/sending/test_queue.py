"""The sending queue: its options, room, order, and a caller that waits in it."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, virtual_loop
from doubles.sending import Destination, running
from doubles.virtual_loop import scenario

from otel_oom import errors
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer


def test_the_queues_defaults_are_the_collectors_but_that_order_is_kept():
    config = QueueConfig()

    assert (config.enabled, config.num_consumers, config.capacity) == (True, 1, 1000)
    assert (config.max_items, config.max_bytes, config.reserve) == (0, 0, 0.1)
    assert QueueConfig(storage="file_storage").capacity == 1_000_000
    assert (config.sizer, config.block_on_overflow) == ("requests", False)
    assert (config.wait_for_result, config.storage) == (False, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_consumers": 0}, "num_consumers"),
        ({"queue_size": -1}, "queue_size"),
        ({"max_items": -1}, "max_items"),
        ({"max_bytes": -1}, "max_bytes"),
        ({"reserve": 1.0}, "reserve"),
    ],
)
def test_a_queue_that_cannot_work_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        QueueConfig(**values)


@scenario
async def test_no_more_requests_at_once_than_consumers():
    destination = Destination()
    async with running(destination, num_consumers=3) as (agent, exporter):
        for _ in range(10):
            await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(3.5)

        assert destination.most == 3
        assert agent.sum() == {"delivered": 9, "held": 1}


@scenario
async def test_one_consumer_keeps_the_order():
    destination = Destination()
    async with running(destination, num_consumers=1) as (agent, exporter):
        bodies = []
        for name in "abcde":
            batch = exporting.logs(name)
            bodies.append(batch.data.SerializeToString())
            await agent.consume(exporter, batch)
        await asyncio.sleep(10)

        assert [request.body for request in destination.requests] == bodies


@scenario
async def test_a_full_queue_refuses_and_the_caller_keeps_its_batch():
    async with running(Destination(), queue_size=2) as (agent, exporter):
        for _ in range(2):
            await agent.consume(exporter, exporting.logs("a"))
        with pytest.raises(errors.QueueFull):
            await agent.consume(exporter, exporting.logs("b", "c"))

        assert agent.sum() == {"held": 2, "queue_full": 2}
        assert agent.counter("exporter_enqueue_failed") == 2
        assert {name: value for name, _, value in agent.ledger.gauges()} == {
            "exporter_queue_size": 2,
            "exporter_queue_capacity": 2,
        }


@pytest.mark.parametrize(
    ("sizer", "size"), [("items", 5), ("bytes", 2 * exporting.logs("a", "b").data.ByteSize())]
)
def test_the_queue_can_be_measured_in_items_or_bytes(sizer, size):
    async def main():
        limits = {"sizer": sizer, "queue_size": size, "reserve": 0.0}
        async with running(Destination(), **limits) as (agent, exporter):
            for _ in range(2):
                await agent.consume(exporter, exporting.logs("a", "b"))
            with pytest.raises(errors.QueueFull):
                await agent.consume(exporter, exporting.logs("a", "b"))
            with pytest.raises(errors.QueueFull, match="can never fit"):
                await agent.consume(exporter, exporting.logs(*"abcdefghi"))

    virtual_loop.run(main())


@scenario
async def test_blocking_on_overflow_waits_for_room():
    queue = {"queue_size": 1, "num_consumers": 1, "block_on_overflow": True}
    async with running(Destination(), **queue) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("a"))

        assert virtual_loop.now_s() == 2
        assert agent.sum() == {"delivered": 2, "held": 1}


@scenario
async def test_a_caller_that_waits_for_room_is_refused_at_shutdown():
    queue = {"queue_size": 1, "block_on_overflow": True}
    async with running(Destination(), **queue) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        waiting = asyncio.create_task(agent.consume(exporter, exporting.logs("b")))
        await asyncio.sleep(0.1)
        await exporter.shutdown()

        with pytest.raises(errors.Refused, match="stopped"):
            await waiting
        assert agent.sum() == {"delivered": 1, "shutdown": 1}


@pytest.mark.parametrize("queue", [{"enabled": False}, {"wait_for_result": True}])
def test_the_caller_waits_for_the_result(queue):
    async def main():
        answers = errors.Retryable("down"), Answer(), errors.Permanent("bad")
        async with running(Destination(*answers), **queue) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))
            assert agent.sum() == {"delivered": 1}
            assert virtual_loop.now_s() == 7  # 1 s for each try, 5 s between them
            await agent.consume(exporter, exporting.logs("b"))
            assert agent.sum() == {"delivered": 1, "rejected": 1}

    virtual_loop.run(main())


@scenario
async def test_waiting_for_the_result_sends_no_more_at_once_than_consumers():
    destination = Destination()
    queue = {"wait_for_result": True, "num_consumers": 2, "queue_size": 3}
    async with running(destination, **queue) as (agent, exporter):
        calls = [agent.consume(exporter, exporting.logs("a")) for _ in range(4)]
        results = await asyncio.gather(*calls, return_exceptions=True)

        assert [type(result) for result in results[:3]] == [type(None)] * 3
        assert isinstance(results[3], errors.QueueFull)
        assert destination.most == 2


@pytest.mark.parametrize("values", [{"wait_for_result": True}, {"block_on_overflow": True}])
def test_a_storage_goes_with_no_option_that_it_cannot_serve(values):
    (key,) = values
    problems = list(QueueConfig(storage="file_storage", **values).validate())
    assert ((key,), f"`{key}` cannot be used with `storage`") in problems
