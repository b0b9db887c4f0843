"""The slowest operations of the last minute, in a fixed room: for `otel-oom top`.

They are kept by tens of seconds, so many of each. So one that is slow is there for as long as
its minute lasts, however many come after it, and makes room at the end of it.
"""

from __future__ import annotations

import collections
import heapq
import itertools
from collections.abc import Iterable
from typing import NamedTuple

from otel_oom.receivers.storage.slow import Slow

KEPT_S = 60
_PART_S, _PARTS = 10, 7
_MOST_A_PART = 16


class Seen(NamedTuple):
    """A slow operation, and when it was reported; ordered by its duration."""

    duration_ns: int
    number: int
    seen_s: float
    slow: Slow


class Slowest:
    """At most `_PARTS * _MOST_A_PART` operations."""

    def __init__(self) -> None:
        self._parts: collections.deque[tuple[int, list[Seen]]] = collections.deque(maxlen=_PARTS)
        self._numbers = itertools.count()

    def note(self, slows: Iterable[Slow], now_s: float) -> None:
        """Keep those that are slower than what is kept of the same ten seconds."""
        part = int(now_s // _PART_S)
        if not self._parts or self._parts[-1][0] != part:
            self._parts.append((part, []))
        kept = self._parts[-1][1]
        for slow in slows:
            times_ns = slow.line.times_ns
            duration_ns = times_ns[-1] - times_ns[0]
            if len(kept) < _MOST_A_PART:
                heapq.heappush(kept, Seen(duration_ns, next(self._numbers), now_s, slow))
            elif duration_ns > kept[0].duration_ns:
                heapq.heapreplace(kept, Seen(duration_ns, next(self._numbers), now_s, slow))

    def last_minute(self, now_s: float) -> list[Seen]:
        """The slowest first; as many as one part keeps, so that none of them is a guess."""
        found = (seen for _, kept in self._parts for seen in kept if now_s - seen.seen_s <= KEPT_S)
        return heapq.nlargest(_MOST_A_PART, found)
