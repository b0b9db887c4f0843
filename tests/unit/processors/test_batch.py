"""The `batch` processor: when it sends, what it holds, and that nothing gets lost."""

import asyncio
import contextlib

import pytest
from doubles import sink
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.processors import batch

LONG = 3600.0


@contextlib.asynccontextmanager
async def running(config, consumer=None, bench=None):
    bench = bench or sink.Bench()
    end = consumer or sink.Sink(bench.ledger)
    processor = batch.FACTORY.create(bench.settings("batch"), config, end)
    await processor.start()
    try:
        yield processor, end, bench.ledger
    finally:
        await processor.shutdown()


def test_the_defaults_are_the_collectors():
    config = batch.Config()

    assert (config.send_batch_size, config.timeout, config.send_batch_max_size) == (8192, 0.2, 0)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"send_batch_size": -1}, "send_batch_size"),
        ({"timeout": -1.0}, "timeout"),
        ({"send_batch_size": 10, "send_batch_max_size": 9}, "send_batch_max_size"),
        ({"metadata_keys": ["tenant"]}, "metadata_keys"),
    ],
)
def test_what_cannot_work_is_refused_with_its_key(options, key):
    ((path, message),) = batch.Config(**options).validate()

    assert path == (key,)
    assert f"`{key}`" in message


async def test_a_full_batch_goes_at_once_and_as_one():
    async with running(batch.Config(send_batch_size=3, timeout=LONG)) as (processor, end, _):
        for body in ("a", "b", "c"):
            await processor.consume(sink.log_batch(body))
        await end.wait_for_items(3)

        assert [one.items for one in end.batches] == [3]
        assert end.bodies() == ["a", "b", "c"]


async def test_what_is_of_different_weights_stays_apart_and_the_heavy_goes_first():
    async with running(batch.Config(send_batch_size=4, timeout=LONG)) as (processor, end, _):
        for body, weight in (("a", 5), ("b", 10), ("c", 5), ("d", 10)):
            await processor.consume(sink.log_batch(body).weighing(weight))
        await end.wait_for_items(4)

        assert [(one.items, one.weight) for one in end.batches] == [(2, 10), (2, 5)]
        assert end.bodies() == ["b", "d", "a", "c"]


async def test_each_part_of_a_batch_that_is_cut_has_its_weight():
    config = batch.Config(send_batch_size=2, send_batch_max_size=2, timeout=LONG)
    async with running(config) as (processor, end, _):
        await processor.consume(sink.log_batch("a", "b", "c").weighing(9))
        await end.wait_for_items(3)

        assert [(one.items, one.weight) for one in end.batches] == [(2, 9), (1, 9)]


async def test_what_is_not_full_waits_for_the_timer():
    async with running(batch.Config(send_batch_size=100, timeout=0.01)) as (processor, end, _):
        await processor.consume(sink.log_batch("a"))
        await end.wait_for_items(1)

        assert end.bodies() == ["a"]


async def test_what_is_not_full_is_held_and_counted_until_the_stop_which_sends_it():
    async with running(batch.Config(send_batch_size=100, timeout=LONG)) as (processor, end, ledger):
        await processor.consume(sink.log_batch("a", "b"))
        assert ledger.balance(Signal.LOGS).held == 2
        assert end.batches == []

        await processor.shutdown()

        assert end.bodies() == ["a", "b"]
        assert ledger.balance(Signal.LOGS).held == 0


@pytest.mark.parametrize("options", [{"send_batch_size": 0}, {"timeout": 0.0}])
async def test_zero_means_not_to_wait(options):
    config = batch.Config(**{"send_batch_size": 100, "timeout": LONG} | options)
    async with running(config) as (processor, end, _):
        await processor.consume(sink.log_batch("a"))
        await end.wait_for_items(1)


async def test_a_larger_batch_is_cut_in_order():
    config = batch.Config(send_batch_size=2, send_batch_max_size=2, timeout=LONG)
    async with running(config) as (processor, end, _):
        await processor.consume(sink.log_batch(*"abcde"))
        await end.wait_for_items(5)

        assert [one.items for one in end.batches] == [2, 2, 1]
        assert end.bodies() == list("abcde")


async def test_what_the_next_consumer_refuses_is_dropped_with_its_reason():
    async with running(batch.Config(send_batch_size=1)) as (processor, end, ledger):
        end.refusal = errors.QueueFull("full")
        await processor.consume(sink.log_batch("a"))
        await processor.shutdown()

        balance = ledger.balance(Signal.LOGS)
        assert (balance.dropped, balance.held) == ({"queue_full": 1}, 0)


async def test_a_slow_consumer_makes_producers_wait_instead_of_filling_the_memory():
    config = batch.Config(send_batch_size=2, timeout=LONG)
    async with running(config) as (processor, end, ledger):
        end.open.clear()
        producers = [
            asyncio.create_task(processor.consume(sink.log_batch(str(number))))
            for number in range(20)
        ]
        for _ in range(50):
            await asyncio.sleep(0)
        assert ledger.balance(Signal.LOGS).held == 4  # a batch on its way, and one that is full
        end.open.set()
        await asyncio.gather(*producers)

        await processor.shutdown()
        assert end.bodies() == [str(number) for number in range(20)]


async def test_a_producer_that_is_cancelled_while_it_waits_still_owns_its_batch():
    config = batch.Config(send_batch_size=1, timeout=LONG)
    async with running(config) as (processor, end, ledger):
        end.open.clear()
        for body in ("on its way", "full"):
            await processor.consume(sink.log_batch(body))
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(processor.consume(sink.log_batch("waits")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        end.open.set()
        await processor.shutdown()

        assert waiting.cancelled()
        assert end.bodies() == ["on its way", "full"]
        assert ledger.balance(Signal.LOGS).held == 0


async def test_a_stop_that_takes_too_long_counts_the_rest_as_dropped():
    async with running(batch.Config(send_batch_size=1, timeout=LONG)) as (processor, end, ledger):
        end.open.clear()
        await processor.consume(sink.log_batch("a"))
        await asyncio.sleep(0.001)
        await processor.consume(sink.log_batch("b", "c"))
        stop = asyncio.create_task(processor.shutdown())
        await asyncio.sleep(0)
        stop.cancel()
        await asyncio.wait([stop])

        balance = ledger.balance(Signal.LOGS)
        assert (balance.dropped, balance.held, end.batches) == ({"shutdown": 3}, 0, [])


async def test_after_the_stop_nothing_is_taken():
    async with running(batch.Config()) as (processor, _, _):
        await processor.shutdown()

        with pytest.raises(errors.Refused):
            await processor.consume(sink.log_batch("late"))


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 9), max_size=15),
    size=st.integers(0, 8),
    extra=st.none() | st.integers(0, 5),
)
def test_whatever_comes_goes_out_once_and_in_order(sizes, size, extra):
    largest = 0 if extra is None else max(1, size + extra)

    async def scenario():
        bench = sink.Bench()
        config = batch.Config(send_batch_size=size, send_batch_max_size=largest, timeout=LONG)
        number = iter(range(10_000))
        async with running(config, bench=bench) as (processor, end, ledger):
            for count in sizes:
                bodies = [str(next(number)) for _ in range(count)]
                ledger.produced("test", Signal.LOGS, count)
                await processor.consume(sink.log_batch(*bodies))
                assert ledger.balance(Signal.LOGS).difference == 0
            await processor.shutdown()
        return end, ledger

    end, ledger = asyncio.run(scenario())

    assert end.bodies() == [str(number) for number in range(sum(sizes))]
    assert all(not largest or one.items <= largest for one in end.batches)
    assert ledger.balance(Signal.LOGS).difference == 0
