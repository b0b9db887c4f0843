"""Back-off on a virtual clock: exact times, the server's delay, giving up, stopping."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest
from doubles import virtual_loop
from hypothesis import given
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import (
    AdaptiveConfig,
    RetryConfig,
    RetrySender,
    intervals_s,
)

REQUEST = Request(Signal.LOGS, b"body", 3)
EXACT = {"randomization_factor": 0.0}


class Script:
    """Raises or returns one thing after the other, the last for ever; notes the times."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.at_s = []

    async def send(self, request):
        self.at_s.append(virtual_loop.now_s())
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step


def attempt(script, **config):
    return virtual_loop.run(RetrySender(RetryConfig(**config), script).send(REQUEST))


def test_the_defaults_are_the_collectors():
    config = RetryConfig()

    assert (config.enabled, config.initial_interval, config.max_interval) == (True, 5, 30)
    assert (config.max_elapsed_time, config.multiplier) == (300, 1.5)
    assert config.randomization_factor is None, "full jitter, which the collector has not"


def test_waits_grow_by_the_multiplier_up_to_the_longest():
    script = Script(*[errors.Retryable("down")] * 7, Answer())

    attempt(script, **EXACT)

    waits = [b - a for a, b in itertools.pairwise(script.at_s)]
    assert waits == pytest.approx([5, 7.5, 11.25, 16.875, 25.3125, 30, 30])


@given(
    factor=st.floats(0, 1),
    initial=st.floats(0.001, 100),
    longest=st.floats(0.001, 100),
    multiplier=st.floats(1, 10),
)
def test_jitter_stays_within_its_factor_of_the_exact_wait(factor, initial, longest, multiplier):
    numbers = {
        "initial_interval": initial,
        "max_interval": longest,
        "multiplier": multiplier,
        "max_elapsed_time": 0,
    }
    exact = intervals_s(RetryConfig(**numbers, **EXACT))
    spread = intervals_s(RetryConfig(**numbers, randomization_factor=factor))

    for middle, wait in itertools.islice(zip(exact, spread, strict=True), 20):
        assert middle * (1 - factor) - 1e-9 <= wait <= middle * (1 + factor) + 1e-9


def test_jitter_does_spread():
    assert len({next(intervals_s(RetryConfig())) for _ in range(20)}) > 1


def test_a_servers_delay_lengthens_the_wait_and_never_shortens_it():
    script = Script(
        errors.Retryable("busy", delay_s=42.0), errors.Retryable("busy", delay_s=0.1), Answer()
    )

    attempt(script, **EXACT)

    assert script.at_s == pytest.approx([0, 42, 49.5])


def test_it_gives_up_when_the_next_try_would_be_too_late():
    script = Script(errors.Retryable("down"))

    with pytest.raises(errors.GaveUp, match="max_elapsed_time") as caught:
        attempt(script, max_elapsed_time=40, **EXACT)

    assert caught.value.reason == "retries_exhausted"
    assert script.at_s == pytest.approx([0, 5, 12.5, 23.75])  # the next would be at 40.625


def test_a_delay_beyond_the_time_left_gives_up_at_once():
    script = Script(errors.Retryable("busy", delay_s=1e9))

    with pytest.raises(errors.GaveUp):
        attempt(script)

    assert script.at_s == [0]


def test_zero_max_elapsed_time_never_gives_up():
    script = Script(*[errors.Retryable("down")] * 1000, Answer())

    attempt(script, max_elapsed_time=0)

    assert len(script.at_s) == 1001


def test_a_permanent_error_is_not_tried_again():
    script = Script(errors.Permanent("bad"))

    with pytest.raises(errors.Permanent):
        attempt(script)

    assert script.at_s == [0]


def test_without_retries_the_first_failure_is_the_last():
    script = Script(errors.Retryable("down"))

    with pytest.raises(errors.GaveUp, match="retries are off"):
        attempt(script, enabled=False)

    assert script.at_s == [0]


def test_stop_ends_the_wait_and_leaves_one_last_try():
    script = Script(errors.Retryable("down"))

    async def main():
        sender = RetrySender(RetryConfig(**EXACT), script)
        sending = asyncio.create_task(sender.send(REQUEST))
        await asyncio.sleep(1)
        sender.stop()
        with pytest.raises(errors.GaveUp) as caught:
            await sending
        return caught.value.reason

    assert virtual_loop.run(main()) == "shutdown"
    assert script.at_s == [0, 1]


def test_by_default_a_wait_is_anything_up_to_the_whole():
    waits = [next(intervals_s(RetryConfig())) for _ in range(300)]

    assert all(0 <= wait <= 5 for wait in waits)
    assert min(waits) < 0.5
    assert max(waits) > 4.5


def test_a_delay_of_years_is_obeyed_for_an_hour_where_nothing_ends_the_tries():
    script = Script(errors.Retryable("busy", delay_s=1e9), Answer())

    attempt(script, max_elapsed_time=0)

    assert script.at_s == [0, 3600]


@pytest.mark.parametrize(("idle", "waits"), [(1.0, [5, 7.5]), (0.5, [10, 15]), (0.05, [30, 30])])
def test_a_busy_host_waits_longer_and_never_longer_than_the_longest(idle, waits):
    script = Script(*[errors.Retryable("down")] * 2, Answer())

    virtual_loop.run(RetrySender(RetryConfig(**EXACT), script, lambda: idle).send(REQUEST))

    assert [b - a for a, b in itertools.pairwise(script.at_s)] == pytest.approx(waits)


def test_without_the_adaptive_part_it_is_the_collectors():
    config = RetryConfig(adaptive=AdaptiveConfig(enabled=False), max_elapsed_time=0, **EXACT)
    script = Script(*[errors.Retryable("down")] * 20, Answer())

    async def main():
        sender = RetrySender(config, script, lambda: 0.05)
        await asyncio.gather(*(sender.send(REQUEST) for _ in range(5)))

    virtual_loop.run(main())
    assert script.at_s.count(5) == 5, "each request by itself, as if the host were idle"


class Away:
    """Refuses until `back_s`, then takes; each try takes a millisecond."""

    def __init__(self, back_s):
        self.back_s = back_s
        self.at_s = []
        self.weights = []

    async def send(self, attempt):
        self.at_s.append(virtual_loop.now_s())
        await asyncio.sleep(0.001)
        if virtual_loop.now_s() < self.back_s:
            raise errors.Retryable("away")
        self.weights.append(attempt.request.weight)
        return Answer()


def sent_while_away(back_s, **config):
    """Ten requests of weights 1 to 10 through one sender; the destination, and their outcomes."""
    away = Away(back_s)

    async def main():
        sender = RetrySender(RetryConfig(**config), away)
        requests = [dataclasses.replace(REQUEST, weight=weight) for weight in range(1, 11)]
        return await asyncio.gather(*map(sender.send, requests), return_exceptions=True)

    return away, virtual_loop.run(main())


def test_a_dead_destination_gets_no_storm_and_everything_arrives_when_it_is_back():
    back_s = 4 * 3600.0
    away, outcomes = sent_while_away(back_s, max_elapsed_time=0)
    free, _ = sent_while_away(back_s, max_elapsed_time=0, adaptive=AdaptiveConfig(budget=0))

    assert outcomes == [Answer()] * 10
    assert len(away.at_s) < len(free.at_s) / 5
    assert max(away.at_s) < back_s + 60


def test_nothing_is_given_up_for_the_budget():
    """The age at which a request is given up is the same, and it had a try at that age."""
    away, outcomes = sent_while_away(1e9)

    assert {outcome.reason for outcome in outcomes} == {"retries_exhausted"}
    assert 290 < max(away.at_s) <= 300


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"initial_interval": -1}, "initial_interval"),
        ({"multiplier": 0.5}, "multiplier"),
        ({"randomization_factor": 1.1}, "randomization_factor"),
        ({"max_elapsed_time": 10}, "use 0 to never give up"),
        ({"max_elapsed_time": 10, "enabled": False}, "max_elapsed_time"),
    ],
)
def test_what_can_only_be_a_mistake_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        RetryConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"), [({"max_timeout": 0}, "max_timeout"), ({"budget": -1}, "budget")]
)
def test_what_the_adaptive_part_cannot_mean_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveConfig(**values)
