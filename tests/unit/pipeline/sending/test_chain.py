"""The chain: queue, concurrency, accounting at every instant, shutdown."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from doubles import exporting, virtual_loop

from otel_oom import errors
from otel_oom.pipeline.component import State
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.chain import Exporting
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer
from otel_oom.pipeline.sending.retry import RetryConfig


class Destination:
    """Takes `takes_s` seconds for each request, then does what `answers` say, one by one."""

    def __init__(self, *answers, takes_s=1.0):
        self.answers = list(answers)
        self.takes_s = takes_s
        self.requests = []
        self.now = self.most = 0

    async def send(self, request):
        self.requests.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.now -= 1
        answer = self.answers.pop(0) if self.answers else Answer()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def running(destination, *, timeout_s=0.0, max_bytes=1 << 20, retry=None, **queue):
    agent = exporting.Agent()
    exporter = Exporting(
        agent.settings,
        destination,
        queue=QueueConfig(**queue),
        retry=retry or RetryConfig(randomization_factor=0),
        timeout_s=timeout_s,
        max_bytes=max_bytes,
    )
    await exporter.start()
    asyncio.get_running_loop().watch(agent.check)  # no instant is left out
    try:
        yield agent, exporter
    finally:
        await exporter.shutdown()
        agent.check()


def scenario(function):
    """Run an asynchronous test in virtual time."""

    def test():
        virtual_loop.run(function())

    test.__name__ = function.__name__
    return test


def test_the_queues_defaults_are_the_collectors():
    config = QueueConfig()

    assert (config.enabled, config.num_consumers, config.queue_size) == (True, 10, 1000)
    assert (config.sizer, config.block_on_overflow) == ("requests", False)
    assert (config.wait_for_result, config.storage) == (False, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_consumers": 0}, "num_consumers"),
        ({"queue_size": -1}, "queue_size"),
        ({"storage": "file_storage"}, "not available yet"),
    ],
)
def test_a_queue_that_cannot_work_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        QueueConfig(**values)


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
    async with running(Destination(Answer(rejected=1))) as (agent, exporter):
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
        async with running(Destination(), sizer=sizer, queue_size=size) as (agent, exporter):
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
        await asyncio.sleep(5)
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
        assert {name: value for name, _, value in agent.ledger.gauges()}["exporter_queue_size"] == 0


@scenario
async def test_shutdown_is_safe_before_the_start_and_twice():
    agent = exporting.Agent()
    exporter = Exporting(
        agent.settings, Destination(), queue=QueueConfig(), retry=RetryConfig(), timeout_s=0
    )
    await agent.consume(exporter, exporting.logs("a"))
    await exporter.shutdown()
    await exporter.shutdown()

    assert agent.sum() == {"shutdown": 1}


@scenario
async def test_a_batch_that_is_too_large_goes_in_parts():
    destination = Destination()
    batch = exporting.logs(*"abcdefgh")
    async with running(destination, max_bytes=200) as (agent, exporter):
        await agent.consume(exporter, batch)
        await asyncio.sleep(2)

        assert len(destination.requests) > 1
        assert all(len(request.body) <= 200 for request in destination.requests)
        assert agent.sum() == {"delivered": 8}


@scenario
async def test_an_item_that_no_request_can_hold_is_dropped_and_the_others_go():
    async with running(Destination(), max_bytes=1000) as (agent, exporter):
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
