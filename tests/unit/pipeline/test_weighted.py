"""Turns by weight: who gets how many, and that none is lost or kept for nobody."""

from __future__ import annotations

import asyncio
import collections

import pytest
from doubles.virtual_loop import scenario
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.pipeline import weighted
from otel_oom.pipeline.weighted import Turns


@given(st.sets(st.integers(1, 10), min_size=1))
def test_everybody_has_a_tenth_and_the_heavy_no_less_than_the_light(weights):
    shares = weighted.shares(weights)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share >= 0.1 - 1e-9 for share in shares.values())
    assert sorted(shares) == sorted(shares, key=lambda weight: (round(shares[weight], 9), weight))


def test_what_is_above_the_least_is_shared_by_weight():
    assert weighted.shares([5, 3]) == pytest.approx({5: 0.6, 3: 0.4})
    assert weighted.shares([9, 1]) == pytest.approx({9: 0.82, 1: 0.18})


async def served(weights, turns=100, *, back=True, limit=1):
    """How many of the first turns went to each weight, if each has one who wants them all."""
    gate, order, done = Turns(limit), [], asyncio.Event()

    async def want(weight):
        while not done.is_set():
            await gate.take(weight)
            order.append(weight)
            await asyncio.sleep(1.0)
            gate.give_back(weight, comes_back=back)
            await asyncio.sleep(0.01)  # the next request is read
            if len(order) >= turns:
                done.set()
        gate.leave(weight)

    async with asyncio.timeout(1e6), asyncio.TaskGroup() as group:
        for weight in weights:
            group.create_task(want(weight))
    return collections.Counter(order[:turns]), order


@scenario
async def test_one_who_comes_back_has_its_share_though_the_others_wait():
    counts, order = await served([5, 3])
    assert counts == {5: 60, 3: 40}
    assert all(3 in order[at : at + 3] for at in range(90)), "nobody waits long"


@scenario
async def test_the_least_weight_has_its_tenth_among_many():
    counts, _ = await served(range(1, 10), turns=900)
    assert min(counts.values()) >= 89
    assert counts[9] > counts[1]


@scenario
async def test_who_does_not_come_back_takes_turns_with_the_others():
    counts, _ = await served([9, 1], back=False)
    assert counts == {9: 50, 1: 50}


@scenario
async def test_no_more_at_a_time_than_there_are_turns():
    gate = Turns(2)
    await gate.take(5)
    await gate.take(3)
    third = asyncio.create_task(gate.take(3))
    await asyncio.sleep(1)
    assert not third.done()
    gate.give_back(5, comes_back=False)
    await third


@scenario
async def test_a_turn_that_is_kept_goes_to_another_when_its_weight_leaves():
    gate = Turns(1)
    for _ in range(2):
        await gate.take(1)
        gate.give_back(1, comes_back=False)
    await gate.take(9)
    other = asyncio.create_task(gate.take(1))
    await asyncio.sleep(1)
    gate.give_back(9, comes_back=True)
    await asyncio.sleep(1)
    assert not other.done()
    gate.leave(9)
    gate.leave(7)  # which has never come
    await other


@scenario
async def test_a_weight_that_was_away_saves_no_turns_up():
    gate, order = Turns(1), []

    async def use(weight, times):
        for _ in range(times):
            await gate.take(weight)
            order.append(weight)
            await asyncio.sleep(1)
            gate.give_back(weight, comes_back=True)
        gate.leave(weight)

    await use(5, 50)
    await asyncio.gather(use(5, 10), use(4, 10))
    assert collections.Counter(order[50:60])[5] >= 5


@scenario
async def test_who_is_cancelled_leaves_its_turn_to_others():
    gate = Turns(1)
    await gate.take(5)
    waiting = [asyncio.create_task(gate.take(5)) for _ in range(3)]
    await asyncio.sleep(1)
    waiting[1].cancel()
    await asyncio.sleep(1)
    gate.give_back(5, comes_back=False)
    waiting[0].cancel()  # it has just been given the turn, and does not know yet
    await waiting[2]
    assert waiting[0].cancelled()
    assert waiting[1].cancelled()
