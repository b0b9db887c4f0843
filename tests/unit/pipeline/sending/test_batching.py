"""`sending_queue.batch`: what is joined and when, and that the sum closes all the while."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools

import pytest
from doubles import exporting, otlp_json_reader, virtual_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.config import expand, limits, load, problems, structure, tree
from otel_oom.pipeline import data
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.sending import limits as sending_limits
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.chain import Exporting
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer
from otel_oom.pipeline.sending.retry import RetryConfig

LONG_S = 3600.0
ENCODINGS = {"protobuf": sending_limits.protobuf, "json": otlp_json.encode}
MAKE = {
    Signal.LOGS: lambda numbers: exporting.logs(*map(str, numbers)),
    Signal.TRACES: lambda numbers: exporting.spans(*map(str, numbers)),
    Signal.METRICS: lambda numbers: exporting.points(*numbers),
}


class Destination:
    """Takes `takes_s` seconds for each try, then does what `answers` say, one by one."""

    def __init__(self, *answers, takes_s=0.0):
        self.answers = list(answers)
        self.takes_s = takes_s
        self.arrived = []
        self.at_s = []

    async def send(self, request):
        if not any(request is one for one in self.arrived):
            self.arrived.append(request)
            self.at_s.append(virtual_loop.now_s())
        await asyncio.sleep(self.takes_s)
        answer = self.answers.pop(0) if self.answers else Answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def items(self):
        return [request.items for request in self.arrived]


@contextlib.asynccontextmanager
async def running(destination, batch=None, *, encode=sending_limits.protobuf, **more):
    """An exporter whose sum and queue size are checked between any two turns of the loop."""
    agent = exporting.Agent()
    max_bytes = more.pop("max_bytes", 1 << 20)
    exporter = Exporting(
        agent.settings,
        destination,
        queue=QueueConfig(batch=batch, **{"num_consumers": 1, **more}),
        retry=RetryConfig(randomization_factor=0, max_elapsed_time=0),
        timeout_s=0,
        encode=encode,
        max_bytes=max_bytes,
    )
    await exporter.start()
    asyncio.get_running_loop().watch(agent.check)
    try:
        yield agent, exporter
    finally:
        await exporter.shutdown()
        assert "held" not in agent.sum()
        assert gauge(agent) == 0


def gauge(agent):
    return {name: value for name, _, value in agent.ledger.gauges()}["exporter_queue_size"]


def parsed(request, encode=sending_limits.protobuf):
    kind = data.MESSAGES[request.signal]
    if encode is otlp_json.encode:
        return otlp_json_reader.parse(request.body, kind)
    return kind.FromString(request.body)


def scenario(function):
    """Run an asynchronous test in virtual time."""

    @functools.wraps(function)
    def test(*args, **kwargs):
        virtual_loop.run(function(*args, **kwargs))

    return test


# --- the options ---------------------------------------------------------------------------


def read(text):
    """`sending_queue` of a YAML text, with the problems that a user would be told."""
    budget = limits.Budget()
    root = expand.Expander({}, budget).expand(load.load(text.encode(), "a.yaml", budget))
    report = problems.Report(root)
    config = structure.structure(tree.plain(root), QueueConfig, (), report)
    report.check()
    return config


def test_it_is_off_by_default_and_its_defaults_are_the_collectors():
    config = read("batch: {}").batch

    assert QueueConfig().batch is None
    assert (config.flush_timeout, config.min_size, config.max_size) == (0.2, 8192, 0)
    assert read("batch: {}").batching().sizer == "items"
    assert config.partition.metadata_keys == []


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("batch: {flush_timeout: 0s}", "batch.flush_timeout", "`flush_timeout` must be greater"),
        ("batch: {min_size: -1}", "batch.min_size", "`min_size` must not be negative"),
        ("batch: {max_size: -1}", "batch.max_size", "`max_size` must not be negative"),
        (
            "batch: {max_size: 8191}",
            "batch.max_size",
            r"`max_size` \(8191\) .* `min_size` \(8192\)",
        ),
        ("batch: {sizer: requests}", "batch.sizer", "must be one of items, bytes"),
        (
            "batch: {partition: {metadata_keys: [tenant]}}",
            "batch.partition.metadata_keys",
            "`metadata_keys` is not supported",
        ),
        (
            "{sizer: items, batch: {}}",
            "batch",
            r"`min_size` \(8192\) must be at most `queue_size` \(1000\)",
        ),
        (
            "{sizer: bytes, queue_size: 9, batch: {min_size: 10}}",
            "batch.min_size",
            r"`min_size` \(10\) must be at most `queue_size` \(9\)",
        ),
        ("{wait_for_result: true, batch: {}}", "batch", "`batch` .* `wait_for_result`"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(text, path, message):
    with pytest.raises(problems.InvalidConfig, match=message) as caught:
        read(text)

    assert path in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{batch: {min_size: 5000}, queue_size: 10}",
        "{batch: {sizer: bytes}, sizer: items}",
        "{batch: {min_size: 10, max_size: 10}, sizer: items, queue_size: 10}",
        "{batch: {}, enabled: false, wait_for_result: true}",
    ],
)
def test_sizes_in_different_units_are_not_compared(text):
    assert read(text).batch is not None


def test_its_unit_is_the_queues_unless_it_says_otherwise():
    assert read("{sizer: bytes, queue_size: 10000, batch: {}}").batching().sizer == "bytes"
    assert read("{sizer: bytes, batch: {sizer: items}}").batching().sizer == "items"


@scenario
async def test_an_encoding_that_nobody_can_join_is_refused():
    with pytest.raises(errors.ComponentError, match=r"`sending_queue\.batch` cannot be used"):
        async with running(Destination(), BatchConfig(), encode=lambda message: b"own"):
            pass


# --- when ----------------------------------------------------------------------------------


@scenario
async def test_a_full_batch_goes_at_once():
    destination = Destination()
    config = BatchConfig(min_size=5, flush_timeout=LONG_S)
    async with running(destination, config) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("a", "b"))
        await asyncio.sleep(1)

        assert (destination.items(), destination.at_s) == ([6], [0.0])
        assert agent.sum() == {"delivered": 6}
        assert agent.counter("exporter_sent") == 6


@scenario
async def test_what_waits_goes_after_the_time_of_the_first():
    destination = Destination()
    async with running(destination, BatchConfig(flush_timeout=2.0)) as (agent, exporter):
        for _ in range(2):
            await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(1.5)
        assert (destination.items(), destination.at_s) == ([2], [2.0])

        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(9)
        assert (destination.items(), destination.at_s) == ([2, 1], [2.0, 5.0])


@scenario
async def test_shutdown_sends_what_waits_at_once():
    destination = Destination()
    async with running(destination, BatchConfig(flush_timeout=LONG_S)) as (agent, exporter):
        for make in MAKE.values():
            await agent.consume(exporter, make([1]))
            await agent.consume(exporter, make([2]))
        assert agent.sum() == {"held": 2}
        await exporter.shutdown()

        assert (destination.items(), destination.at_s) == ([2, 2, 2], [0.0, 0.0, 0.0])


@scenario
async def test_each_signal_has_a_batch_and_a_time_of_its_own():
    destination = Destination()
    config = BatchConfig(min_size=3, flush_timeout=4.0)
    async with running(destination, config) as (agent, exporter):
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
    async with running(destination, BatchConfig(min_size=5)) as (agent, exporter):
        for _ in range(8):
            await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(1)
        await asyncio.sleep(500)

        assert destination.items() == [1, 5, 2]


@scenario
async def test_without_it_each_request_goes_as_it_came():
    destination = Destination(takes_s=1)
    async with running(destination) as (agent, exporter):
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(9)

        assert (destination.items(), destination.at_s) == ([1, 1, 1], [0.0, 1.0, 2.0])


# --- how much ------------------------------------------------------------------------------


@scenario
async def test_max_size_is_not_exceeded_and_a_larger_request_goes_alone():
    destination = Destination()
    config = BatchConfig(min_size=4, max_size=4)
    async with running(destination, config) as (agent, exporter):
        for items in (3, 2, 7, 1):
            await agent.consume(exporter, exporting.logs(*"abcdefg"[:items]))
        await asyncio.sleep(1)

        assert destination.items() == [3, 2, 7, 1]


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@scenario
async def test_bytes_and_the_limit_of_a_request_are_not_exceeded(encode):
    size = len(encode(exporting.logs("a").data))
    destination = Destination()
    config = BatchConfig(sizer="bytes", min_size=9 * size)
    async with running(
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
    destination = Destination(*answers)
    async with running(destination, BatchConfig()) as (agent, exporter):
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
    async with running(Destination(takes_s=LONG_S), config) as (agent, exporter):
        for _ in range(5):
            await agent.consume(exporter, exporting.logs("a"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await exporter.shutdown()

        assert agent.sum() == {"shutdown": 5}
        assert gauge(agent) == 0


# --- whatever comes ------------------------------------------------------------------------

ANSWERS = st.sampled_from(
    [
        Answer(),
        Answer(rejected=2, message="two"),
        errors.Retryable("later"),
        errors.Retryable("not before", delay_s=7.0),
        errors.Permanent("never"),
    ]
)
ARRIVALS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from(Signal), st.integers(1, 5)),
    max_size=25,
)
QUEUES = st.builds(
    lambda sizer, unit, minimum, above, **more: {
        "sizer": sizer,
        "queue_size": 1 << 30,
        "batch": BatchConfig(sizer=unit, min_size=minimum, max_size=above and minimum + above),
        **more,
    },
    sizer=st.sampled_from(["requests", "items", "bytes"]),
    unit=st.sampled_from(["items", "bytes", None]),
    minimum=st.integers(0, 30) | st.integers(31, 3000),
    above=st.just(0) | st.integers(1, 1000),
    max_bytes=st.sampled_from([4000, 1 << 20]),
    num_consumers=st.sampled_from([1, 1, 3]),
)


@settings(max_examples=300, deadline=None)
@given(
    encode=st.sampled_from(list(ENCODINGS.values())),
    queue=QUEUES,
    arrivals=ARRIVALS,
    answers=st.lists(ANSWERS, max_size=12),
    takes_s=st.sampled_from([0.0, 0.05, 2.0]),
)
def test_everything_arrives_once_in_order_and_is_counted_once(
    encode, queue, arrivals, answers, takes_s
):
    destination = Destination(*answers, takes_s=takes_s)
    sent = collections.defaultdict(list)

    async def main():
        async with running(destination, encode=encode, **queue) as (agent, exporter):
            watch_queue(agent, queue["sizer"])
            for number, (pause_s, signal, items) in enumerate(arrivals):
                await asyncio.sleep(pause_s)
                sent[signal].append(MAKE[signal](range(10 * number, 10 * number + items)))
                await agent.consume(exporter, sent[signal][-1])
            while any("held" in agent.sum(signal) for signal in Signal):
                await asyncio.sleep(1)
            for signal in Signal:
                expected = sum(batch.items for batch in sent[signal])
                assert sum(agent.sum(signal).values()) == expected

    virtual_loop.run(main())
    config = QueueConfig(batch=queue["batch"], sizer=queue["sizer"]).batching()
    for request in destination.arrived:
        joined = request.requests > 1
        assert len(request.body) <= queue["max_bytes"]
        assert not joined or request.size(config.sizer) <= (config.max_size or 1 << 30)
        assert data.count_items(parsed(request, encode)) == request.items
    check_contents(destination.arrived, sent, encode, in_order=queue["num_consumers"] == 1)


def watch_queue(agent, sizer):
    """See at every instant, beside the sum, that the queue's size is what is not yet settled."""

    def check():
        agent.check()
        held = sum(items for name, of, _, _, items in agent.ledger.rows()
                   if name == "held" and of != "caller")  # fmt: skip
        assert gauge(agent) == held if sizer == "items" else bool(gauge(agent)) == bool(held)

    asyncio.get_running_loop().watch(check)


def check_contents(arrived, sent, encode, *, in_order):
    """What arrived is the concatenation of what was sent, resource by resource."""
    for signal, batches in sent.items():
        field = f"resource_{'spans' if signal is Signal.TRACES else signal}"
        got = [
            resource
            for request in arrived
            if request.signal is signal
            for resource in getattr(parsed(request, encode), field)
        ]
        wanted = [resource for batch in batches for resource in getattr(batch.data, field)]
        if in_order:
            assert got == wanted
        else:
            assert sorted(map(str, got)) == sorted(map(str, wanted))
