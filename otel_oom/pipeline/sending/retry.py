"""Trying again: exponential back-off with jitter, bounded in time, obedient to the server.

The rules are the collector's (config/configretry, exporterhelper's retry sender): the n-th
wait is `initial_interval * multiplier^n`, at most `max_interval`, spread by
`randomization_factor`; a delay that the server asks for can only lengthen it; the request is
given up when the next try would start after `max_elapsed_time`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Iterator

from otel_oom import errors
from otel_oom.config.types import Duration
from otel_oom.pipeline.sending.request import Answer, Request, Sender


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
    """Age at which a request is given up, default 300s; 0 never gives up."""

    multiplier: float = 1.5
    """Growth of the wait from try to try, default 1.5; at least 1."""

    randomization_factor: float = 0.5
    """Spread of each wait, default 0.5: half to one and a half times; 0 for exact waits."""

    def __post_init__(self) -> None:
        """Refuse what can only be a mistake, also when retries are off (as the collector does)."""
        for key in ("initial_interval", "max_interval", "max_elapsed_time"):
            if getattr(self, key) < 0:
                raise ValueError(f"'{key}' must not be negative")
        if self.multiplier < 1:
            raise ValueError("'multiplier' must be at least 1")
        if not 0 <= self.randomization_factor <= 1:
            raise ValueError("'randomization_factor' must be within 0 and 1")
        if 0 < self.max_elapsed_time < max(self.initial_interval, self.max_interval):
            raise ValueError(
                "'max_elapsed_time' must not be less than 'initial_interval' or 'max_interval'; "
                "use 0 to never give up"
            )


def intervals_s(config: RetryConfig) -> Iterator[float]:
    """The waits between tries in seconds, without end."""
    interval = float(config.initial_interval)
    while True:
        capped = min(interval, config.max_interval)
        spread = config.randomization_factor * capped
        yield random.uniform(capped - spread, capped + spread)  # noqa: S311  # jitter, no secret
        interval = min(interval * config.multiplier, config.max_interval)


class RetrySender:
    """Sends again what may be sent again. `stop` ends all waits: one last try each."""

    def __init__(self, config: RetryConfig, then: Sender) -> None:
        self._config = config
        self._then = then
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Wake everything that waits; from now on a request gets one try and no more."""
        self._stopping.set()

    async def send(self, request: Request) -> Answer:
        """Send until it is taken or refused for good, or raise `errors.GaveUp`."""
        began_s = asyncio.get_running_loop().time()
        for interval_s in intervals_s(self._config):
            last = self._stopping.is_set()
            try:
                return await self._then.send(request)
            except errors.Retryable as failure:
                if last:
                    raise errors.GaveUp(f"{failure}; shutting down", "shutdown") from failure
                self._check(failure, interval_s, began_s)
                await self._wait(max(interval_s, failure.delay_s or 0.0))
        raise AssertionError  # the intervals have no end

    def _check(self, failure: errors.Retryable, interval_s: float, began_s: float) -> None:
        if not self._config.enabled:
            raise errors.GaveUp(f"{failure}; retries are off", "retries_exhausted") from failure
        limit_s = self._config.max_elapsed_time
        elapsed_s = asyncio.get_running_loop().time() - began_s
        if limit_s and elapsed_s + max(interval_s, failure.delay_s or 0.0) > limit_s:
            raise errors.GaveUp(
                f"{failure}; given up after {elapsed_s:.0f} s, because the next try would be "
                f"later than max_elapsed_time ({limit_s:g} s)",
                "retries_exhausted",
            ) from failure

    async def _wait(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
