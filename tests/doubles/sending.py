"""A destination that does what a test says, and the chain of senders that ends in it.

It runs in virtual time, and the sum must close at every instant:

    @virtual_loop.scenario
    async def test():
        async with sending.running(sending.Destination(errors.Permanent("no"))) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))
"""

from __future__ import annotations

import asyncio
import contextlib

from doubles import exporting, virtual_loop

from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.chain import Exporter
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer
from otel_oom.pipeline.sending.retry import RetryConfig

ENCODINGS = {"protobuf": limits.protobuf, "json": otlp_json.encode}
MAKE = {
    Signal.LOGS: lambda numbers: exporting.logs(*map(str, numbers)),
    Signal.TRACES: lambda numbers: exporting.spans(*map(str, numbers)),
    Signal.METRICS: lambda numbers: exporting.points(*numbers),
}
"""Batches of one item a number."""


class Destination:
    """Takes `takes_s` seconds for each try, then does what `answers` say, one by one.

    `requests` has every try; `arrived` each request once, and `at_s` when.
    """

    def __init__(self, *answers, takes_s=1.0):
        self.answers = list(answers)
        self.takes_s = takes_s
        self.requests = []
        self.arrived = []
        self.at_s = []
        self.now = self.most = 0
        self.is_open = False

    async def open(self):
        self.is_open = True

    async def close(self):
        self.is_open = False

    async def send(self, request):
        assert self.is_open
        if not any(request is one for one in self.arrived):
            self.arrived.append(request)
            self.at_s.append(virtual_loop.now_s())
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

    def items(self):
        return [request.items for request in self.arrived]


@contextlib.asynccontextmanager
async def running(
    destination, *, timeout_s=0.0, max_bytes=1 << 20, retry=None, encode=limits.protobuf, **queue
):
    """A started chain; at the end nothing is held, and the destination is closed."""
    agent = exporting.Agent()
    exporter = Exporter(
        agent.settings,
        destination,
        queue=QueueConfig(**queue),
        retry=retry or RetryConfig(randomization_factor=0),
        timeout_s=timeout_s,
        encode=encode,
        max_bytes=max_bytes,
    )
    await exporter.start()
    asyncio.get_running_loop().watch(agent.check)  # no instant is left out
    try:
        yield agent, exporter
    finally:
        await exporter.shutdown()
        assert "held" not in agent.sum()
        assert gauge(agent) == 0
        assert not destination.is_open


def batching(destination, batch=None, **more):
    """`running` with a batch, one consumer, and tries without end."""
    forever = RetryConfig(randomization_factor=0, max_elapsed_time=0)
    return running(destination, retry=forever, batch=batch, **{"num_consumers": 1, **more})


def gauge(agent):
    """The queue's size as self-telemetry has it; 0 without a queue."""
    gauges = {name: value for name, _, value in agent.ledger.gauges()}
    return gauges.get("exporter_queue_size", 0)
