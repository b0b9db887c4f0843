"""Trying again: back-off with jitter, obedient to the server, and gentle with what is dead.

The rules are the collector's (config/configretry, exporterhelper's retry sender): the n-th
wait is `initial_interval * multiplier^n`, at most `max_interval`; a delay that the server asks for
can only lengthen it; the request is given up when the next try would start after
`max_elapsed_time`. Beside them stand ours (docs/decisions/0014): a busy host waits longer, and a
destination that only fails is tried by one request at a time (`pipeline/attempts/budget.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator

from otel_oom import errors
from otel_oom.config.types import Duration
from otel_oom.pipeline.attempts.budget import Budget, Gate
from otel_oom.pipeline.attempts.timeouts import Rule, Timeouts
from otel_oom.pipeline.sending.attempt import Attempt, AttemptSender
from otel_oom.pipeline.sending.request import Answer, Request

MAX_SERVER_DELAY_S = 3600.0
"""As much of a delay that the server asks for is obeyed where there is no `max_elapsed_time`: a
date that is wrong by a year must not stop the delivery for a year."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """`retry_on_failure.adaptive`: what the collector has not got."""

    enabled: bool = True
    """Whether timeouts and waits follow the weight of a request and the load of this host, default
    true. If not, each try has `timeout`, and waits are what `retry_on_failure` says."""

    max_timeout: Duration = Duration(60.0)
    """Longest time for one try, default 1m. A try has `timeout` at least: up to twice that for the
    highest weight, more if answers take long, if this host is busy, and after a timeout."""

    budget: int = 10
    """Tokens of the exporter's retry budget, default 10; 0 for no budget. A failure takes one, a
    timeout two. With half of them spent one request at a time is tried, the heaviest first, until
    there is an answer. Nothing is given up for it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.max_timeout <= 0:
            raise ValueError("'max_timeout' must be greater than 0")
        if self.budget < 0:
            raise ValueError("'budget' must not be negative")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """`retry_on_failure`, with the collector's names and defaults."""

    enabled: bool = True
    """Whether a failed request is tried again; if not, it is dropped as `retries_exhausted`."""

    initial_interval: Duration = Duration(5.0)
    """Wait before the second try, default 5s."""

    max_interval: Duration = Duration(30.0)
    """Longest wait between two tries, default 30s; a server may ask for more."""

    max_elapsed_time: Duration = Duration(300.0)
    """Age at which a request is given up, default 300s; 0 never gives up. It has no meaning with
    `sending_queue.storage`."""

    multiplier: float = 1.5
    """Growth of the wait from try to try, default 1.5; at least 1."""

    randomization_factor: float | None = None
    """Spread of each wait: 0.5 is half to one and a half times, 0 is exact. Default full jitter:
    anything from nothing to the whole wait, so that agents do not come back together."""

    adaptive: AdaptiveConfig = dataclasses.field(default_factory=AdaptiveConfig)
    """What follows load, weight and history; on by default."""

    def __post_init__(self) -> None:
        """Refuse what can only be a mistake, also when retries are off (as the collector does)."""
        for key in ("initial_interval", "max_interval", "max_elapsed_time"):
            if getattr(self, key) < 0:
                raise ValueError(f"'{key}' must not be negative")
        if self.multiplier < 1:
            raise ValueError("'multiplier' must be at least 1")
        if not 0 <= (self.randomization_factor or 0) <= 1:
            raise ValueError("'randomization_factor' must be within 0 and 1")
        if 0 < self.max_elapsed_time < max(self.initial_interval, self.max_interval):
            raise ValueError(
                "'max_elapsed_time' must not be less than 'initial_interval' or 'max_interval'; "
                "use 0 to never give up"
            )

    def timeouts(self, timeout_s: float, idleness: Callable[[], float]) -> Timeouts | None:
        """The times of tries that are configured to take `timeout_s`; None for no limit."""
        if not timeout_s:
            return None
        return Timeouts(Rule(least_s=timeout_s, most_s=self.longest_s(timeout_s)), idleness)

    def longest_s(self, timeout_s: float) -> float:
        """The longest that a try may take which is configured to take `timeout_s`."""
        return max(timeout_s, self.adaptive.max_timeout) if self.adaptive.enabled else timeout_s


def intervals_s(config: RetryConfig) -> Iterator[float]:
    """The waits between tries in seconds, without end."""
    interval = float(config.initial_interval)
    while True:
        capped = min(interval, config.max_interval)
        factor = config.randomization_factor
        least, most = (
            (0.0, capped) if factor is None else ((1 - factor) * capped, (1 + factor) * capped)
        )
        yield random.uniform(least, most)  # noqa: S311  # jitter, no secret
        interval = min(interval * config.multiplier, config.max_interval)


class RetrySender:
    """Sends again what may be sent again. `stop` ends all waits: one last try each."""

    def __init__(
        self,
        config: RetryConfig,
        then: AttemptSender,
        idleness: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._config = config
        self._then = then
        self._idleness = idleness
        self._gate = Gate(Budget(config.adaptive.budget if config.adaptive.enabled else 0))
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Wake everything that waits; from now on a request gets one try and no more."""
        self._stopping.set()
        self._gate.stop()

    async def send(self, request: Request) -> Answer:
        """Send until it is taken or refused for good, or raise `errors.GaveUp`."""
        attempt, began_s, takes_turn = Attempt(request), _now_s(), False
        for interval_s in intervals_s(self._config):
            last = self._stopping.is_set()
            try:
                return await self._try(attempt, interval_s, takes_turn=takes_turn)
            except errors.Retryable as failure:
                if last:
                    raise errors.GaveUp(f"{failure}; shutting down", "shutdown") from failure
                wait_s = self._stretched(interval_s)
                self._check(failure, wait_s, began_s)
                takes_turn = await self._wait(attempt, _longer(wait_s, failure), began_s)
                attempt = Attempt(request, attempt.tries + 1, attempt.timeouts + failure.timed_out)
        raise AssertionError  # the intervals have no end

    async def _try(self, attempt: Attempt, interval_s: float, *, takes_turn: bool) -> Answer:
        """One try, and what it says of the destination: any answer but `Retryable` is a sign."""
        try:
            answer = await self._then.send(attempt)
        except errors.Retryable as failure:
            wait_s = _longer(self._stretched(interval_s), failure)
            self._gate.failed(timed_out=failure.timed_out, wait_s=wait_s)
            raise
        except errors.Permanent:
            self._gate.answered()
            raise
        else:
            self._gate.answered()
            return answer
        finally:
            if takes_turn:
                self._gate.leave()

    def _stretched(self, interval_s: float) -> float:
        """The wait on this host as it is now; that it is busy never makes it the longest."""
        if not self._config.adaptive.enabled:
            return interval_s
        return max(interval_s, min(self._config.max_interval, interval_s / self._idleness()))

    def _check(self, failure: errors.Retryable, wait_s: float, began_s: float) -> None:
        if not self._config.enabled:
            raise errors.GaveUp(f"{failure}; retries are off", "retries_exhausted") from failure
        limit_s = self._config.max_elapsed_time
        elapsed_s = _now_s() - began_s
        if limit_s and elapsed_s + max(wait_s, failure.delay_s or 0.0) > limit_s:
            raise errors.GaveUp(
                f"{failure}; given up after {elapsed_s:.0f} s, because the next try would be "
                f"later than max_elapsed_time ({limit_s:g} s)",
                "retries_exhausted",
            ) from failure

    async def _wait(self, attempt: Attempt, wait_s: float, began_s: float) -> bool:
        """Wait for the next try; whether it is the only one now. See `Gate.enter`."""
        await self._sleep(wait_s)
        limit_s = self._config.max_elapsed_time
        return await self._gate.enter(
            attempt.request.weight, began_s + limit_s if limit_s else None
        )

    async def _sleep(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()


def _longer(wait_s: float, failure: errors.Retryable) -> float:
    """The wait, or what the server asks for if that is more."""
    return max(wait_s, min(failure.delay_s or 0.0, MAX_SERVER_DELAY_S))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
