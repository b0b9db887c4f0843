"""Where records wait for their pod to become known: off the way of all others, and not for long."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from otel_oom.pipeline.data import Signal
from otel_oom.processors.k8s_attributes.chunks import Chunk
from otel_oom.processors.k8s_attributes.enrich import Enriched

_MOST_KNOWN = 4096
_MOST_TIMEOUTS = 5
"""For how many time-outs a resource is worth waiting for: some never become known."""

LOOK_S = 0.1
"""Between two looks at whoever waits: a kubelet and a node's links tell of no change, and the
link of an instance that dies while its pod is deleted does not last."""

_PAUSE_S = 0.02
"""Between two looks, so that a storm of changes costs little."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A chunk as it came; `due_s` is when it goes as it is, in the loop's seconds."""

    signal: Signal
    chunk: Chunk
    items: int
    weight: int
    due_s: float


class Holding:
    """Chunks that wait, by their resource."""

    def __init__(self, timeout_s: float, most_items: int) -> None:
        self._timeout_s = timeout_s
        self._most_items = most_items
        self._held: dict[bytes, list[Held]] = {}
        self._since: collections.OrderedDict[bytes, float] = collections.OrderedDict()
        self._wake = asyncio.Event()
        self.items: collections.Counter[Signal] = collections.Counter()

    def wants(self, raw: bytes) -> bool:
        """Whether it is worth waiting for what is known of a resource."""
        since_s = self._since.get(raw)
        return self._timeout_s > 0 and (
            since_s is None or _now_s() - since_s < self._timeout_s * _MOST_TIMEOUTS
        )

    def has_room(self, items: int) -> bool:
        """Whether so many more may wait."""
        return self.items.total() + items <= self._most_items

    def take(self, signal: Signal, chunk: Chunk, items: int, weight: int) -> None:
        """Keep a chunk."""
        now_s, raw = _now_s(), chunk.resource
        held = Held(signal, chunk, items, weight, now_s + self._timeout_s)
        self._held.setdefault(raw, []).append(held)
        self._since.setdefault(raw, now_s)
        if len(self._since) > _MOST_KNOWN:
            self._since.popitem(last=False)
        self.items[signal] += items
        self._wake.set()

    def wake(self, *, stop: bool = False) -> None:
        """Look again at those that wait: more is known, or it is time to `stop`."""
        if self._held or stop:
            self._wake.set()

    async def changed(self) -> None:
        """Wait until someone may be known, has waited long enough, or it is time to look again."""
        due_s = min((held[0].due_s for held in self._held.values()), default=None)
        if due_s is not None:
            due_s = min(due_s, _now_s() + LOOK_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due_s):
                await self._wake.wait()
                await asyncio.sleep(_PAUSE_S)
        self._wake.clear()

    def ready(
        self, enrich: Callable[[bytes], Enriched], *, flush: bool = False
    ) -> Iterator[tuple[Held, Enriched]]:
        """Take out those that are known now, that have waited long enough, or all of them."""
        now_s = _now_s()
        for raw in list(self._held):
            enriched, held = enrich(raw), self._held.pop(raw)
            is_over = flush or not enriched.waits
            left = [] if is_over else [each for each in held if each.due_s > now_s]
            if left:
                self._held[raw] = left
            if not enriched.waits:
                self._since.pop(raw, None)
            yield from ((each, enriched) for each in held[: len(held) - len(left)])

    def gone(self, held: Held) -> None:
        """What was taken out is no longer ours."""
        self.items[held.signal] -= held.items


def _now_s() -> float:
    return asyncio.get_running_loop().time()
