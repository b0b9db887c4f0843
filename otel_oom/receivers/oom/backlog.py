"""Records that have left the ring and wait to be understood.

To copy a record takes microseconds; to find out about its kill takes near a millisecond, most of
it in files of the cgroup. In a storm the agent gets little of the processors' time, so the ring
is emptied first and again after every few records: it then has room for the kills that come
while the agent waits for its turn.
"""

from __future__ import annotations

import collections

from otel_oom.bpf.ring import Ring

MOST_BYTES = 4 * 1024 * 1024
"""With so much waiting, further records wait in the ring, and are counted there if it is full."""

_DRAIN_RECORDS = 256


class Backlog:
    """First in, first out. `most_bytes` may be exceeded by one drain of the ring."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._records: collections.deque[bytes] = collections.deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._records)

    def take(self, source: Ring, count: int) -> list[bytes]:
        """Empty the ring, as far as there is room; return up to `count` of the oldest records."""
        self._fill(source)
        taken = [self._records.popleft() for _ in range(min(count, len(self._records)))]
        self._bytes -= sum(map(len, taken))
        return taken

    def _fill(self, source: Ring) -> None:
        while self._bytes < self._most_bytes and (found := source.drain(_DRAIN_RECORDS)):
            self._records.extend(found)
            self._bytes += sum(map(len, found))
