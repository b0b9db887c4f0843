"""A backend that is away for three days, and a million items that wait: the important goes first."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3

from doubles import exporting, inline_loop, keeping
from doubles.virtual_loop import now_s
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom import errors
from otel_oom.pipeline.durable import items
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import RetryConfig

HOUR_S = 3600.0
AWAY_S = 72 * HOUR_S
EVERY_S = {10: 1800.0, 5: 600.0, 3: 300.0}
"""How often something of each weight comes."""


@dataclasses.dataclass
class Arrival:
    """One record that the destination has."""

    name: str
    weight: int
    at_s: float
    requests: int
    """Requests that it had taken before."""


class Destination:
    """Cannot be reached until `back_s`; then each call takes `takes_s`."""

    def __init__(self, back_s: float, takes_s: float) -> None:
        self.back_s, self.takes_s = back_s, takes_s
        self.arrivals: list[Arrival] = []
        self.requests = self.tries = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, request: Request) -> Answer:
        self.tries += 1
        if now_s() < self.back_s:
            raise errors.Retryable("it is away")
        await asyncio.sleep(self.takes_s)
        for resource in LogsData.FromString(request.body).resource_logs:
            for record in resource.scope_logs[0].log_records:
                self.arrivals.append(
                    Arrival(record.event_name, request.weight, now_s(), self.requests)
                )
        self.requests += 1
        return Answer()

    def names(self, weight: int) -> list[str]:
        return [one.name for one in self.arrivals if one.weight == weight]


async def produce(agent, exporter, weight: int, until_s: float) -> list[str]:
    """Hand over a record now and then; its name says when."""
    names = []
    while now_s() < until_s:
        names.append(f"{weight} at {now_s():.0f}")
        await agent.consume(exporter, exporting.logs(names[-1]).weighing(weight))
        await asyncio.sleep(EVERY_S[weight])
    return names


async def outage(folder, destination: Destination, **queue):
    """Three days without a backend, then new kills while it gets what has waited."""
    retry = RetryConfig(max_interval=300, max_elapsed_time=0)
    async with keeping.running(folder, destination, retry=retry, **queue) as (agent, exporter):
        senders = [produce(agent, exporter, weight, AWAY_S) for weight in EVERY_S]
        names = dict(zip(EVERY_S, await asyncio.gather(*senders), strict=True))
        assert agent.sum() == {"held": sum(map(len, names.values()))}
        while not destination.requests:
            await asyncio.sleep(1.0)
        fresh = {}
        for number in range(20):
            fresh[f"fresh {number}"] = (now_s(), destination.requests)
            batch = exporting.logs(f"fresh {number}").weighing(10)
            await agent.consume(exporter, batch)
            await asyncio.sleep(3 * destination.takes_s)
        names[10] += fresh
        while "held" in agent.sum():
            await asyncio.sleep(10.0)
        assert agent.sum() == {"delivered": sum(map(len, names.values()))}
    return names, fresh


def test_a_backend_that_is_away_for_three_days_gets_all_in_order(tmp_path):
    """Virtual time over the real queue, database, retry and turns."""
    destination = Destination(AWAY_S, takes_s=0.5)
    names, fresh = inline_loop.run(outage(tmp_path, destination))

    for weight, expected in names.items():
        assert destination.names(weight) == expected
    assert len(names[3]) == 864
    assert destination.tries < len(destination.arrivals) + 3 * AWAY_S / 150, "no storm of tries"
    by_name = {one.name: one for one in destination.arrivals}
    waited = sum(one.weight == 10 for one in destination.arrivals) - len(fresh)
    for name, (_, requests_before) in fresh.items():
        # The kills that had waited for three days are before it, each with one call of the others.
        assert by_name[name].requests - requests_before <= 2 * (waited + len(fresh))
    kills_done = max(by_name[name].requests for name in fresh)
    assert len(destination.arrivals) - kills_done > 0.6 * len(destination.arrivals), "no starving"
    lower = [one.weight for one in destination.arrivals if one.weight < 10]
    both = lower[lower.index(5) :][:400]  # the wait after its last try may have been the longer
    assert 230 <= both.count(5) <= 250, "6 to 4, as their weights say"


def test_a_kill_that_comes_while_all_that_waited_is_sent_is_the_next_but_one(tmp_path):
    async def main():
        destination = Destination(HOUR_S, takes_s=0.5)
        retry = RetryConfig(max_elapsed_time=0)
        async with keeping.running(tmp_path, destination, retry=retry) as (agent, exporter):
            for number in range(300):
                for weight in (5, 3):
                    batch = exporting.logs(f"{weight} {number}").weighing(weight)
                    await agent.consume(exporter, batch)
            while not destination.requests:
                await asyncio.sleep(1.0)
            for number in range(50):
                before = destination.requests
                await agent.consume(exporter, exporting.logs(f"kill {number}").weighing(10))
                await asyncio.sleep(1.3)
                (kill,) = (one for one in destination.arrivals if one.name == f"kill {number}")
                assert kill.requests - before <= 1
            assert "held" in agent.sum()

    inline_loop.run(main())


class Fast(Destination):
    """Takes all at once, in real time."""

    async def send(self, request: Request) -> Answer:
        await asyncio.sleep(0.001)
        self.requests += 1
        self.arrivals.append(Arrival("", request.weight, 0.0, self.requests))
        return Answer()


async def test_a_million_items_of_a_low_weight_delay_no_kill(tmp_path):
    """Counted in requests: what is sent between a kill's acceptance and its arrival."""
    destination = Fast(0.0, 0.0)
    low = exporting.logs(*(["m"] * 10_000)).weighing(3)
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        for _ in range(100):
            await agent.consume(exporter, low)
        assert agent.sum()["held"] + agent.sum().get("delivered", 0) == 1_000_000
        for number in range(30):
            before = destination.requests
            await agent.consume(exporter, exporting.logs(f"kill {number}").weighing(10))
            await keeping.until(lambda kills=number + 1: destination.names(10) == [""] * kills)
            at = [one.requests for one in destination.arrivals if one.weight == 10][-1]
            assert at - before <= 4
        await keeping.until(lambda: "held" not in agent.sum())


def test_reading_goes_by_an_index_of_queue_and_weight(tmp_path):
    """However many there are of another weight, none of them is looked at."""
    plans = []

    async def main():
        async with keeping.running(tmp_path, Fast(0.0, 0.0)) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))

    asyncio.run(main())
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as connection:
        for statement, values in ((items.AFTER, ("q", 3, 0, 1)), (items.LAST, ("q", 3, 0))):
            plans += connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    assert len(plans) == 2
    wanted = "SEARCH items USING INDEX items_of_queue (queue=? AND weight=? AND id>?)"
    assert {plan[3] for plan in plans} == {wanted}
