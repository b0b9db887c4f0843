"""Where every item went: the sum that must close for each signal.

    produced + recovered + copied = delivered + rejected + dropped{reason} + held

`held` is asked of the components that hold items (queues, batchers); everything else is
counted here, at the moment it happens, by the component that knows. The self-telemetry and
the summary at the stop are views of this one table.
"""

from __future__ import annotations

import asyncio
import collections
import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from otel_oom import errors
from otel_oom.pipeline.data import Batch, Signal

if TYPE_CHECKING:
    from otel_oom.pipeline.consumer import Consumer


@dataclasses.dataclass(frozen=True, slots=True)
class Balance:
    """One signal's sum, in items."""

    produced: int
    recovered: int
    copied: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    held: int
    kept: int = 0
    """Of `held`, what outlives the agent."""

    @property
    def difference(self) -> int:
        """Items that the sum cannot explain; anything but 0 is a bug of ours."""
        gone = self.delivered + self.rejected + sum(self.dropped.values()) + self.held
        return self.produced + self.recovered + self.copied - gone


@dataclasses.dataclass(frozen=True, slots=True)
class Depth:
    """What a queue holds of one weight; `oldest_s` is its age in seconds, if that is known."""

    requests: int
    items: int
    bytes: int
    oldest_s: float | None = None


class Ledger:
    """The table. All counts are items, all methods add."""

    def __init__(self) -> None:
        self._produced: collections.Counter[tuple[str, Signal]] = collections.Counter()
        self._recovered: collections.Counter[tuple[str, Signal]] = collections.Counter()
        self._copied: collections.Counter[Signal] = collections.Counter()
        self._delivered: collections.Counter[tuple[str, Signal]] = collections.Counter()
        self._rejected: collections.Counter[tuple[str, Signal]] = collections.Counter()
        self._dropped: collections.Counter[tuple[str, Signal, str]] = collections.Counter()
        self._counters: collections.Counter[tuple[str, str, Signal]] = collections.Counter()
        self._left: collections.Counter[tuple[str, Signal]] = collections.Counter()
        self._owner = ""
        self._holders: list[tuple[str, str, Callable[[Signal], int]]] = []
        self._keepers: list[tuple[str, Callable[[Signal], int]]] = []
        self._gauges: list[tuple[str, str, str, Callable[[], float]]] = []
        self._queues: list[tuple[str, str, Callable[[], Mapping[int, Depth]]]] = []
        """With the owner first."""

    def owned(self, owner: str) -> Ledger:
        """The same table; what is registered with it is forgotten by this owner's name."""
        view = copy.copy(self)
        view._owner = owner  # noqa: SLF001  # it is of this class
        return view

    def produced(self, component: str, signal: Signal, items: int) -> None:
        """A receiver made these items."""
        self._produced[component, signal] += items

    def recovered(self, component: str, signal: Signal, items: int) -> None:
        """A component found these items on its disk, where an earlier life had left them.

        Those that it had left there itself before a reload have been counted.
        """
        known = min(items, self._left[component, signal])
        self._left[component, signal] -= known
        self._recovered[component, signal] += items - known

    def copied(self, signal: Signal, items: int) -> None:
        """A fan-out made these further copies due."""
        self._copied[signal] += items

    def delivered(self, component: str, signal: Signal, items: int) -> None:
        """A destination said that it has these items."""
        self._delivered[component, signal] += items

    def rejected(self, component: str, signal: Signal, items: int) -> None:
        """A destination refused these items for good."""
        self._rejected[component, signal] += items

    def dropped(self, component: str, signal: Signal, items: int, reason: str) -> None:
        """A component gave these items up; `reason` is a short fixed word."""
        self._dropped[component, signal, reason] += items

    def count(self, name: str, component: str, signal: Signal, items: int) -> None:
        """A self-telemetry counter beside the sum, e.g. `exporter_send_failed`."""
        self._counters[name, component, signal] += items

    def hold(self, component: str, held: Callable[[Signal], int]) -> None:
        """Register a component that holds items; `held` tells how many now.

        A processor is made once per pipeline, so one id may hold in several places.
        """
        self._holders.append((self._owner, component, held))

    def keep(self, kept: Callable[[Signal], int]) -> None:
        """Register what of the items that a component holds is on a disk."""
        self._keepers.append((self._owner, kept))

    def gauge(self, name: str, component: str, read: Callable[[], float]) -> None:
        """Register a self-telemetry gauge beside the sum, e.g. `exporter_queue_size`."""
        self._gauges.append((self._owner, name, component, read))

    def queue(self, component: str, read: Callable[[], Mapping[int, Depth]]) -> None:
        """Register a queue; `read` tells what it holds of each weight now."""
        self._queues.append((self._owner, component, read))

    def left(self, component: str, signal: Signal, items: int) -> None:
        """A component that a reload changes leaves these items to the next one of its id.

        They count as held until that calls `recovered`.
        """
        self._left[component, signal] += items

    def forget_readers(self, but: Collection[str] = ()) -> None:
        """Drop what was registered to be read, once its components are stopped for good.

        What those of the owners in `but` registered stays. What the others still hold is on a
        disk: it counts as held, until somebody finds it there.
        """
        for owner, component, held in self._holders:
            for signal in Signal if owner not in but else ():
                self._left[component, signal] += held(signal)
        self._holders[:] = [one for one in self._holders if one[0] in but]
        self._keepers[:] = [one for one in self._keepers if one[0] in but]
        self._gauges[:] = [one for one in self._gauges if one[0] in but]
        self._queues[:] = [one for one in self._queues if one[0] in but]

    def balance(self, signal: Signal) -> Balance:
        """The sum of one signal now."""
        dropped: collections.Counter[str] = collections.Counter()
        for (_, of, reason), items in self._dropped.items():
            if of is signal:
                dropped[reason] += items
        return Balance(
            produced=_total(self._produced, signal),
            recovered=_total(self._recovered, signal),
            copied=self._copied[signal],
            delivered=_total(self._delivered, signal),
            rejected=_total(self._rejected, signal),
            dropped=dict(dropped),
            held=_total(self._left, signal) + sum(held(signal) for *_, held in self._holders),
            kept=sum(kept(signal) for _, kept in self._keepers),
        )

    def rows(self) -> Iterator[tuple[str, str, Signal, str, int]]:
        """Every count as (name, component, signal, reason or "", items), for telemetry."""
        for name, table in self._sums():
            for (component, signal), items in table.items():
                yield name, component, signal, "", items
        for (component, signal, reason), items in self._dropped.items():
            yield "dropped", component, signal, reason, items
        for (name, component, signal), items in self._counters.items():
            yield name, component, signal, "", items
        for (component, signal), items in self._held().items():
            yield "held", component, signal, "", items

    def gauges(self) -> Iterator[tuple[str, str, float]]:
        """Every gauge as (name, component, value now)."""
        for _, name, component, read in self._gauges:
            yield name, component, read()

    def depths(self) -> Iterator[tuple[str, int, Depth]]:
        """What each queue holds now, as (component, weight, depth)."""
        for _, component, read in self._queues:
            for weight, depth in read().items():
                yield component, weight, depth

    def _held(self) -> collections.Counter[tuple[str, Signal]]:
        held = +self._left  # without the zeros
        for _, component, read in self._holders:
            for signal in Signal:
                held[component, signal] += read(signal)
        return held

    def _sums(self) -> tuple[tuple[str, collections.Counter[tuple[str, Signal]]], ...]:
        return (
            ("produced", self._produced),
            ("recovered", self._recovered),
            ("delivered", self._delivered),
            ("rejected", self._rejected),
        )


def _total(table: collections.Counter[tuple[str, Signal]], signal: Signal) -> int:
    return sum(items for (_, of), items in table.items() if of is signal)


async def deliver_or_drop(
    consumer: Consumer, batch: Batch, ledger: Ledger, component: str = "pipeline"
) -> None:
    """Hand a batch on; what the consumer refuses is dropped, counted by its reason.

    A consumer that raises has not taken the batch: that holds for a cancellation, too.
    """
    try:
        await consumer.consume(batch)
    except asyncio.CancelledError:
        ledger.dropped(component, batch.signal, batch.items, "shutdown")
        raise
    except errors.Refused as refused:
        ledger.dropped(component, batch.signal, batch.items, refused.reason)
