"""Back-off on a virtual clock: exact times, the server's delay, giving up, stopping."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from doubles import virtual_loop
from hypothesis import given
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import RetryConfig, RetrySender, intervals_s

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
    assert config.randomization_factor == 0.5


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
        sender = RetrySender(RetryConfig(), script)
        sending = asyncio.create_task(sender.send(REQUEST))
        await asyncio.sleep(1)
        sender.stop()
        with pytest.raises(errors.GaveUp) as caught:
            await sending
        return caught.value.reason

    assert virtual_loop.run(main()) == "shutdown"
    assert script.at_s == [0, 1]


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
