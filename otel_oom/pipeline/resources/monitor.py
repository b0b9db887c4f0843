"""How idle this host is, as one cached number that costs nothing while nobody asks.

It is read when someone asks and the last reading is older than `INTERVAL_S`: no task, no thread,
no wake-up of an idle agent. Averages weigh a reading by the time since the last one, so it does not
matter how often someone asks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from otel_oom.pipeline.resources import pressure

_log = logging.getLogger(__name__)

INTERVAL_S = 0.25
"""Age in seconds at which a reading is replaced by the next that is asked for."""

MAX_AGE_S = 2.0
"""Age in seconds from which a reading that cannot be replaced says nothing any more."""

LEAST = 0.05
"""Idleness of a host that is as busy as can be: what is divided by it grows twentyfold at most."""

UNKNOWN = 0.5
"""Idleness is not above this when there is no reading: a host that cannot be read may be busy."""

FAST_S = 1.0
SLOW_S = 10.0
"""Half-lives in seconds of the two averages; the worse one counts: load is believed at once, and
its end when it has lasted."""


class Reader(Protocol):
    """Where readings come from."""

    def read(self, now_s: float) -> pressure.Pressure:
        """The pressure now, or `OSError`."""

    def missing(self) -> str:
        """What the last reading could not have, and what stood in for it; empty if nothing."""


class Monitor:
    """The idleness of a host. One for the whole agent."""

    def __init__(
        self, reader: Reader | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader = reader or pressure.Reader()
        self._clock = clock
        self._fast = _Average(FAST_S)
        self._slow = _Average(SLOW_S)
        self._value = UNKNOWN
        self._next_s: float | None = None
        self._read_at_s: float | None = None
        self._has_told = False

    def idleness(self) -> float:
        """From `LEAST` (nothing gets on) to 1 (nothing waits)."""
        now_s = self._clock()
        if self._next_s is None or now_s >= self._next_s:
            self._next_s = now_s + INTERVAL_S
            self._renew(now_s)
            self._value = self._worse(now_s)
        return self._value

    def _worse(self, now_s: float) -> float:
        """The worse average; what is too old says only that the host may be busy."""
        idle = min(self._fast.value, self._slow.value)
        if self._read_at_s is None or now_s - self._read_at_s > MAX_AGE_S:
            idle = min(idle, UNKNOWN)
        return min(1.0, max(LEAST, idle))

    def _renew(self, now_s: float) -> None:
        try:
            idle = self._reader.read(now_s).idle
        except (OSError, ValueError, LookupError, ZeroDivisionError) as failure:
            self._tell(f"the load of this host cannot be read ({failure}); it counts as busy")
            return
        passed_s = None if self._read_at_s is None else now_s - self._read_at_s
        self._fast.add(idle, passed_s)
        self._slow.add(idle, passed_s)
        self._read_at_s = now_s
        if missing := self._reader.missing():
            self._tell(missing)

    def _tell(self, text: str) -> None:
        """Say it once: it will not change while the agent lives."""
        if not self._has_told:
            self._has_told = True
            _log.warning("pressure of this host: %s", text)


class _Average:
    """An exponential average of readings that come when they come."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self.value = 1.0

    def add(self, reading: float, passed_s: float | None) -> None:
        """Take a reading so many seconds after the last one; None: it is the first."""
        old = 0.0 if passed_s is None else 0.5 ** (passed_s / self._half_life_s)
        self.value = old * self.value + (1 - old) * reading
