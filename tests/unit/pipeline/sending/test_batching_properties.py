"""`sending_queue.batch`: whatever comes, it arrives once, in order, and the sum closes."""

from __future__ import annotations

import asyncio
import collections

from doubles import otlp_json_reader, virtual_loop
from doubles.sending import ENCODINGS, MAKE, Destination, batching, gauge
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.pipeline import data
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.sending.batching import BatchConfig
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer

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
        async with batching(destination, encode=encode, **queue) as (agent, exporter):
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


def parsed(request, encode):
    kind = data.MESSAGES[request.signal]
    if encode is otlp_json.encode:
        return otlp_json_reader.parse(request.body, kind)
    return kind.FromString(request.body)
