"""Unix time of the kernel's own clocks.

Two readings of a pair of clocks differ by the time between them, so the offset moves only when
the wall clock was set, or has drifted, by more than a millisecond: what is told of one moment
has one time.
"""

from __future__ import annotations

import time

_STEP_NS = 1_000_000
_READINGS = 3


class Clock:
    """What to add to a clock of the kernel for Unix time; CLOCK_BOOTTIME unless told another."""

    def __init__(self, clock: int = time.CLOCK_BOOTTIME) -> None:
        self._clock = clock
        self._offset_ns = _offset_ns(clock)

    def to_unix_ns(self) -> int:
        """The offset now, in nanoseconds."""
        now_ns = _offset_ns(self._clock)
        if abs(now_ns - self._offset_ns) > _STEP_NS:
            self._offset_ns = now_ns
        return self._offset_ns


def _offset_ns(clock: int) -> int:
    """The offset from the reading in which least time went by."""
    readings = []
    for _ in range(_READINGS):
        before_ns = time.clock_gettime_ns(clock)
        unix_ns = time.time_ns()
        after_ns = time.clock_gettime_ns(clock)
        readings.append((after_ns - before_ns, unix_ns - (before_ns + after_ns) // 2))
    return min(readings)[1]
