"""What an exporter has in memory when a reload changes it goes on in the next one, in its order."""

from __future__ import annotations

import dataclasses

import pytest
from doubles import exporting, keeping, queue_tool

from otel_oom.pipeline.sending.chain import Exporter
from otel_oom.pipeline.sending.queue import QueueConfig


def exporter(agent, destination):
    return Exporter(
        dataclasses.replace(agent.settings, ledger=agent.ledger.owned("exporters/test")),
        destination,
        queue=QueueConfig(),
        retry=exporting.FAST,
        timeout_s=0.0,
    )


@pytest.fixture
def agent():
    return exporting.Agent()


async def changed(agent, *, comes_back):
    """One that holds three, stopped, and the books as a reload leaves them."""
    first = exporter(agent, keeping.Destination(is_up=False))
    await first.start()
    for name in "abc":
        await agent.consume(first, exporting.logs(name))
    agent.settings.leftovers.expect({agent.settings.name} if comes_back else ())
    await first.shutdown()
    agent.ledger.forget_readers(but={""})


async def test_the_next_one_sends_it_in_its_order_and_the_sum_closes_at_each_moment(agent):
    await changed(agent, comes_back=True)
    assert agent.sum() == {"held": 3}
    destination = keeping.Destination()
    second = exporter(agent, destination)
    await second.start()
    await agent.consume(second, exporting.logs("d"))
    assert await exporting.settled(agent) == {"delivered": 4}
    await second.shutdown()

    assert queue_tool.names(destination) == ["a", "b", "c", "d"]


async def test_one_that_does_not_come_back_drops_it(agent):
    await changed(agent, comes_back=False)

    assert agent.sum() == {"shutdown": 3}
    assert list(agent.settings.leftovers.all()) == []
