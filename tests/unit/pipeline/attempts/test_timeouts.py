"""The time of a try: its bounds, its three signs, and that a slow destination gets what it needs."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from otel_oom.pipeline.attempts.timeouts import Rule, Timeouts

LEAST_S = st.floats(0.01, 60)
IDLE = st.floats(0.05, 1)
WEIGHT = st.integers(1, 10)


def timeouts(idle=1.0, **numbers):
    return Timeouts(Rule(**{"least_s": 5.0, "most_s": 60.0, **numbers}), lambda: idle)


def seconds(of, weight=1, timed_out=0):
    return of.limit(weight, timed_out).seconds


def test_it_is_the_configured_time_for_the_lowest_weight_on_an_idle_host():
    assert seconds(timeouts()) == 5


def test_it_rises_with_weight_falls_with_idleness_and_grows_after_a_timeout():
    assert [seconds(timeouts(), weight) for weight in (1, 10)] == [5, 10]
    assert [seconds(timeouts(idle)) for idle in (1.0, 0.5)] == [5, 10]
    assert [seconds(timeouts(), 1, k) for k in range(6)] == [5, 10, 20, 40, 60, 60]


@given(
    least_s=LEAST_S,
    more_s=st.floats(0, 600),
    tried=st.tuples(WEIGHT, st.integers(0, 10**6)),
    idle=IDLE,
    answers_s=st.lists(st.floats(0, 900)),
)
def test_it_is_never_below_the_configured_time_nor_above_the_ceiling(
    least_s, more_s, tried, idle, answers_s
):
    rule = Rule(least_s=least_s, most_s=least_s + more_s)
    one = Timeouts(rule, lambda: idle)
    for took_s in answers_s:
        one.answered(took_s)
    one.timed_out(one.limit(*tried))

    assert rule.least_s <= seconds(one, *tried) <= rule.most_s


@given(LEAST_S, WEIGHT, IDLE, st.lists(st.floats(0.5, 1), min_size=60, max_size=60), st.data())
def test_a_healthy_slow_destination_costs_a_few_timeouts_once_and_none_later(
    least_s, weight, idle, spread, data
):
    """Its answers take up to half the ceiling, each between half and all of that."""
    most_s = max(60.0, least_s)
    longest_s = data.draw(st.floats(0.001, most_s / 2))
    one = Timeouts(Rule(least_s=least_s, most_s=most_s), lambda: idle)
    lost = [0] * len(spread)
    for request, share in enumerate(spread):
        took_s = share * longest_s
        while seconds(one, weight, lost[request]) < took_s:
            one.timed_out(one.limit(weight, lost[request]))
            lost[request] += 1
            assert lost[request] < 20, "it would never be delivered"
        if lost[request] == 0:
            one.answered(took_s)

    assert sum(lost[30:]) == 0


def test_the_next_request_begins_where_the_last_one_ended_until_an_answer():
    one = timeouts()
    one.timed_out(one.limit(1, 0))

    assert seconds(one) == 10
    one.answered(0.1)
    assert seconds(one) == 5


def test_many_that_time_out_at_once_widen_it_once():
    one = timeouts()
    limits = [one.limit(1, 0) for _ in range(10)]
    for limit in limits:
        one.timed_out(limit)

    assert seconds(one) == 10


def test_a_large_request_gets_its_time_though_small_ones_are_answered_meanwhile():
    one = timeouts()
    for own in range(4):
        one.answered(0.01)
        one.timed_out(one.limit(1, own))
        one.answered(0.01)

    assert seconds(one, timed_out=3) == 40


@given(st.floats(1, 50), IDLE)
def test_answers_of_a_busy_host_say_nothing_of_an_idle_one(took_s, idle):
    """What takes long because this host is busy does not stay in the history as the backend's."""
    idleness = [idle]
    one = Timeouts(Rule(least_s=0.001, most_s=1e9), lambda: idleness[0])
    for _ in range(100):
        one.answered(took_s)
    busy_s = seconds(one)
    idleness[0] = 1.0
    assume(idle < 0.99)

    assert seconds(one) == pytest.approx(busy_s * idle)


def test_with_one_time_for_all_nothing_changes_it():
    one = timeouts(0.05, most_s=5.0)
    one.timed_out(one.limit(10, 3))

    assert seconds(one, 10, 9) == 5
