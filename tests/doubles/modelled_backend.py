"""A backend as queueing theory has it, on a virtual clock, before the real senders.

Its processors are shared by all that it works on, and others load it (and the agent's host, if they
are neighbours). It finishes what it has begun though nobody waits for it any more: that is the work
which a timeout wastes, and which makes the next answer later still.

    result = modelled_backend.run(modelled_backend.POLICIES["adaptive"], modelled_backend.BUSY)
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable

from doubles import virtual_loop

from otel_oom import errors
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import AdaptiveConfig, RetryConfig, RetrySender
from otel_oom.pipeline.sending.timeout import TimeoutSender

TIMEOUT_S = 5.0
CONSUMERS = 10
PROCESSORS = 4
WEIGHTS = (10, 5, 3, 3, 3)
_TICK_S = 0.1
_OFF = AdaptiveConfig(enabled=False)

POLICIES = {
    "fixed": {
        "initial_interval": 5, "max_interval": 5, "multiplier": 1, "randomization_factor": 0.0,
        "adaptive": _OFF,
    },
    "exponential": {"randomization_factor": 0.5, "adaptive": _OFF},
    "adaptive": {},
}  # fmt: skip
"""Options of `retry_on_failure`: one wait for all, the collector's defaults, and ours."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What happens to the backend; times in seconds of the virtual clock.

    `load` is the share of it that others take from `begin_s` to `end_s`; 1: it refuses all that time.
    `is_neighbour`: whether the agent's host is as loaded. `give_up_s` is `max_elapsed_time`.
    """

    load: float
    is_neighbour: bool
    begin_s: float = 60.0
    end_s: float = 1260.0
    requests: int = 1200
    give_up_s: float = 300.0
    is_silent: bool = False

    def loaded(self) -> float:
        """The share that others take now."""
        return self.load if self.begin_s <= virtual_loop.now_s() < self.end_s else 0.0


BUSY = Scenario(load=0.75, is_neighbour=True)
OVERLOADED = Scenario(load=0.9, is_neighbour=True)
BUSY_ELSEWHERE = Scenario(load=0.75, is_neighbour=False)
REFUSING = Scenario(load=1.0, is_neighbour=False, give_up_s=0.0)
SILENT = Scenario(load=1.0, is_neighbour=False, give_up_s=0.0, is_silent=True)


@dataclasses.dataclass
class Result:
    """What became of it all."""

    requests: int = 0
    delivered: int = 0
    tries: int = 0
    timeouts: int = 0
    wasted_s: float = 0.0
    """Work that was done for nobody."""
    late_s: float = 0.0
    """From the end of the trouble until the last was delivered."""
    slowest_s: float = 0.0
    """Longest time from a request's turn to its delivery."""


@dataclasses.dataclass(eq=False)
class _Job:
    work_s: float
    left_s: float
    done: asyncio.Future[None]


class Backend:
    """The last link of the chain."""

    def __init__(self, scenario: Scenario, result: Result, chance: random.Random) -> None:
        self._scenario, self._result, self._chance = scenario, result, chance
        self._jobs: list[_Job] = []

    async def send(self, request: Request) -> Answer:
        """Work on it, or refuse it, or say nothing."""
        self._result.tries += 1
        if self._scenario.loaded() >= 1:
            if self._scenario.is_silent:
                await self._silence()
            await asyncio.sleep(0.01)
            raise errors.Retryable("it is away")
        work_s = self._chance.uniform(0.2, 1.2)
        job = _Job(work_s, work_s, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        await job.done
        return Answer()

    async def _silence(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._result.timeouts += 1
            raise

    async def work(self) -> None:
        """Share the processors among all jobs, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            if self._jobs:
                free = min(1.0, PROCESSORS / len(self._jobs)) * (1 - self._scenario.loaded())
                self._advance(_TICK_S * free)

    def _advance(self, share_s: float) -> None:
        for job in list(self._jobs):
            job.left_s -= share_s
            if job.left_s > 0:
                continue
            self._jobs.remove(job)
            if job.done.cancelled():
                self._result.timeouts += 1
                self._result.wasted_s += job.work_s
            else:
                job.done.set_result(None)


def run(policy: dict[str, object], scenario: Scenario, seed: int = 0) -> Result:
    """Send one request a second through the real senders, and wait for the end of each."""
    random.seed(seed)
    return virtual_loop.run(_run(policy, scenario, random.Random(seed)))


async def _run(policy: dict[str, object], scenario: Scenario, chance: random.Random) -> Result:
    result = Result(requests=scenario.requests)
    config = RetryConfig(**policy, max_elapsed_time=scenario.give_up_s)  # type: ignore[arg-type]
    idleness = _idleness(scenario)
    backend = Backend(scenario, result, chance)
    timed = TimeoutSender(config.timeouts(TIMEOUT_S, idleness), backend)
    sender = RetrySender(config, timed, idleness)
    working = asyncio.create_task(backend.work())
    turns = asyncio.Semaphore(CONSUMERS)
    tasks = []
    for _ in range(scenario.requests):
        await asyncio.sleep(chance.expovariate(1.0))
        request = Request(Signal.LOGS, b"", 1, weight=chance.choice(WEIGHTS))
        tasks.append(asyncio.create_task(_one(sender, request, turns, result)))
    await asyncio.gather(*tasks)
    result.late_s = max(0.0, virtual_loop.now_s() - scenario.end_s)
    await asyncio.sleep(600)  # what nobody waits for is finished, too
    working.cancel()
    return result


def _idleness(scenario: Scenario) -> Callable[[], float]:
    """What the monitor of the agent's host says."""
    return lambda: max(0.05, 1 - scenario.loaded()) if scenario.is_neighbour else 1.0


async def _one(
    sender: RetrySender, request: Request, turns: asyncio.Semaphore, result: Result
) -> None:
    async with turns:
        began_s = virtual_loop.now_s()
        try:
            await sender.send(request)
        except errors.GaveUp:
            return
        result.delivered += 1
        result.slowest_s = max(result.slowest_s, virtual_loop.now_s() - began_s)
