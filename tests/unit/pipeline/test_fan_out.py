"""The fan-out: each branch gets everything, and the sum closes whatever a branch does."""

import asyncio

import pytest
from doubles import sink
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.pipeline import accounting, consumer
from otel_oom.pipeline.data import Signal


class Changing(sink.Sink):
    """A branch that changes what it is given."""

    async def consume(self, batch):
        del batch.data.resource_logs[0].scope_logs[0].log_records[:]
        await super().consume(batch)


def fan_out(*branches):
    ledger = accounting.Ledger()
    sinks = [(Changing if mutates else sink.Sink)(ledger) for mutates in branches]
    pairs = list(zip(sinks, branches, strict=True))
    return consumer.FanOut(pairs, ledger), sinks, ledger


async def offer(out, ledger, *bodies):
    batch = sink.log_batch(*bodies)
    ledger.produced("test", Signal.LOGS, batch.items)
    await accounting.deliver_or_drop(out, batch, ledger)


@pytest.mark.parametrize("branches", [(False, True, True), (True, False), (False, False, True)])
async def test_a_branch_that_changes_batches_does_not_change_the_others(branches):
    out, sinks, ledger = fan_out(*branches)
    await offer(out, ledger, "a", "b")

    for one, mutates in zip(sinks, branches, strict=True):
        assert one.bodies() == ([] if mutates else ["a", "b"])
    assert ledger.balance(Signal.LOGS).difference == 0


async def test_branches_that_change_nothing_share_one_message():
    out, (first, second), ledger = fan_out(False, False)
    await offer(out, ledger, "a")

    assert first.batches[0].data is second.batches[0].data


@settings(deadline=None)
@given(refusing=st.lists(st.booleans(), min_size=1, max_size=4), count=st.integers(1, 3))
def test_a_refusal_of_one_branch_is_dropped_there_and_stops_no_other(refusing, count):
    async def scenario():
        out, sinks, ledger = fan_out(*[False] * len(refusing))
        for one, refuses in zip(sinks, refusing, strict=True):
            one.refusal = errors.QueueFull("full") if refuses else None
        await offer(out, ledger, *map(str, range(count)))
        return ledger.balance(Signal.LOGS)

    balance = asyncio.run(scenario())

    assert balance.difference == 0
    assert balance.delivered == count * refusing.count(False)
    assert balance.dropped.get("queue_full", 0) == count * refusing.count(True)


@pytest.mark.parametrize("stuck", [0, 1, 2])
async def test_the_sum_closes_when_a_delivery_is_cancelled_in_the_middle(stuck):
    out, sinks, ledger = fan_out(False, False, False)
    sinks[stuck].open.clear()
    delivery = asyncio.create_task(offer(out, ledger, "a", "b"))
    await asyncio.sleep(0.001)
    delivery.cancel()
    await asyncio.wait([delivery])

    balance = ledger.balance(Signal.LOGS)
    assert balance.difference == 0
    assert (balance.delivered, balance.dropped) == (2 * stuck, {"shutdown": 2 * (3 - stuck)})
