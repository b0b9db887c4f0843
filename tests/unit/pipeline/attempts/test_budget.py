"""The retry budget on a virtual clock: who waits, who goes first, and that all go on in the end."""

from __future__ import annotations

import asyncio

import pytest
from doubles.virtual_loop import now_s, run, scenario
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.pipeline.attempts.budget import Budget, Gate


def spent():
    gate = Gate(Budget(10))
    for _ in range(5):
        gate.failed(timed_out=False, wait_s=7.0)
    return gate


def test_five_failures_or_three_timeouts_spend_half():
    for timed_out, most in ((False, 5), (True, 3)):
        budget = Budget(10)
        counts = 0
        while not budget.is_spent:
            budget.failed(timed_out=timed_out)
            counts += 1
        assert counts == most


def test_an_answer_opens_it_and_the_next_failure_closes_it():
    budget = Budget(10)
    for _ in range(100):
        budget.failed(timed_out=True)
    budget.answered()
    assert not budget.is_spent

    budget.failed(timed_out=False)
    assert budget.is_spent


def test_without_tokens_there_is_no_limit():
    budget = Budget(0)
    for _ in range(100):
        budget.failed(timed_out=True)

    assert not budget.is_spent


@given(st.lists(st.sampled_from(["failed", "timed out", "answered"])))
def test_tokens_stay_between_none_and_all(events):
    budget = Budget(10)
    for event in events:
        if event == "answered":
            budget.answered()
            assert not budget.is_spent
        else:
            budget.failed(timed_out=event == "timed out")
        assert 0 <= budget.left <= 10


@scenario
async def test_nobody_waits_while_there_are_tokens():
    gate = Gate(Budget(10))

    assert await gate.enter(1, None) is False
    assert now_s() == 0


@scenario
async def test_turns_are_taken_one_at_a_time_and_the_heaviest_first():
    gate, order = spent(), []

    async def one(name, weight):
        is_probe = await gate.enter(weight, None)
        order.append((name, is_probe, now_s()))
        await asyncio.sleep(1)
        gate.failed(timed_out=False, wait_s=7.0)
        gate.leave()

    names = {"light": 1, "first": 5, "second": 5, "heavy": 10}
    await asyncio.gather(*(one(name, weight) for name, weight in names.items()))

    assert order == [
        ("heavy", True, 7), ("first", True, 15), ("second", True, 23), ("light", True, 31),
    ]  # fmt: skip


@scenario
async def test_an_answer_lets_all_go_on_at_once():
    gate = spent()
    waiting = [asyncio.create_task(gate.enter(5, None)) for _ in range(9)]
    await asyncio.sleep(8)
    gate.answered()
    gate.leave()

    assert sorted([await one for one in waiting]) == [False] * 8 + [True]
    assert now_s() == 8


@scenario
async def test_nobody_waits_longer_than_it_may():
    gate = spent()
    assert await gate.enter(5, 3.0) is False
    assert now_s() == 3

    assert await gate.enter(5, None) is True, "and who is gone holds up nobody"


@pytest.mark.parametrize("after_s", [0.0, 3.0, 7.0, 7.5])
def test_who_is_cancelled_holds_up_nobody(after_s):
    async def main():
        gate = spent()
        one = asyncio.create_task(gate.enter(10, None))
        await asyncio.sleep(after_s)
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        if not one.cancelled() and one.result():
            gate.leave()
        async with asyncio.timeout(100):
            assert await gate.enter(1, None) is True

    run(main())


@scenario
async def test_stop_lets_everybody_go_on():
    gate = spent()
    waiting = [asyncio.create_task(gate.enter(5, None)) for _ in range(3)]
    await asyncio.sleep(1)
    gate.stop()

    assert [await one for one in waiting] == [False] * 3
    assert await gate.enter(5, None) is False
    assert now_s() == 1
