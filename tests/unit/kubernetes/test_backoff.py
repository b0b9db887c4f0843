"""Waits between tries: they grow, are spread, obey the server, and begin anew after a quiet time."""

import asyncio
import random

from doubles import virtual_loop

from otel_oom.kubernetes.backoff import FIRST_S, FORGET_S, MOST_S, Backoff


@virtual_loop.scenario
async def test_waits_double_to_a_bound_and_are_forgotten_after_a_quiet_time():
    waits = Backoff(random.Random(1))
    for growth in (1, 2, 4, 8, 16, 32):
        delay_s = waits.delay_s()
        assert FIRST_S * growth <= delay_s <= 1.5 * FIRST_S * growth
        await asyncio.sleep(delay_s)
    for _ in range(3):
        assert MOST_S <= waits.delay_s() <= 1.5 * MOST_S
    await asyncio.sleep(1.5 * MOST_S + FORGET_S)
    assert waits.delay_s() <= 1.5 * FIRST_S


@virtual_loop.scenario
async def test_a_server_s_wish_makes_one_wait_longer_and_none_shorter():
    waits = Backoff(random.Random(1))
    assert 60 <= waits.delay_s(60.0) <= 90
    assert 2 * FIRST_S <= waits.delay_s(0.0) <= 3 * FIRST_S


@virtual_loop.scenario
async def test_two_agents_do_not_wait_alike():
    assert Backoff().delay_s() != Backoff().delay_s()
