"""OTLP's exponential buckets of seconds at scale 3, by exact arithmetic: the oracle of tests."""

from __future__ import annotations

FIRST, LAST = -176, 79
NANOSECONDS_8 = 10**72  # of a second, to the eighth


def is_above(ns: int, index: int) -> bool:
    """Whether a time is above 2^(index / 8) seconds; no root, no float."""
    left, right = ns**8, NANOSECONDS_8
    return left > right << index if index >= 0 else left << -index > right


def bucket(ns: int) -> int | None:
    """OTLP's index of the bucket (2^(i/8), 2^((i+1)/8)] s; None: at or below 2^-22 s."""
    if not is_above(ns, FIRST):
        return None
    low, high = FIRST, LAST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_above(ns, middle) else (low, middle)
    return low


def boundary_ns(index: int) -> int:
    """The largest whole number of nanoseconds that is not above 2^(index / 8) s."""
    low, high = 0, 1 << 48
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_above(middle, index) else (middle, high)
    return low
