"""The room of a sending queue: up to three limits, and a part of each that only kills may use."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from otel_oom import errors
from otel_oom.pipeline import weights
from otel_oom.pipeline.sending.request import Request, Sizer


class Size(NamedTuple):
    """How large something is, in each unit that a queue can be measured in."""

    requests: int = 0
    items: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, request: Request) -> Size:
        """That of a request; if it was joined, the sum of those that it was joined of."""
        return cls(*(request.size(sizer) for sizer in ("requests", "items", "bytes")))

    def plus(self, other: Size, sign: int = 1) -> Size:
        """The sum; with a `sign` of -1, the difference."""
        return Size(*(one + sign * more for one, more in zip(self, other, strict=True)))


NOTHING = Size()


def total(sizes: Iterable[Size]) -> Size:
    """The sum of all."""
    return functools.reduce(Size.plus, sizes, NOTHING)


@dataclasses.dataclass(slots=True)
class Room:
    """What is taken of the limits. `reserve` is the part that only the critical weight may use."""

    limits: Mapping[Sizer, int]
    reserve: float
    used: Size = NOTHING

    def fits(self, size: Size, weight: int, freed: Size = NOTHING) -> bool:
        """Whether there is room for something of a weight, once `freed` is gone."""
        after = self.used.plus(size).plus(freed, -1)
        return all(getattr(after, sizer) <= self._most(sizer, weight) for sizer in self.limits)

    def check(self, size: Size, weight: int) -> None:
        """Raise `errors.QueueFull` if it could not even enter an empty queue."""
        for sizer in self.limits:
            own, most = getattr(size, sizer), self._most(sizer, weight)
            if own > most:
                raise errors.QueueFull(
                    f"a request of {own} {sizer} can never fit into a queue of {most}; raise "
                    "sending_queue.queue_size, max_items or max_bytes"
                )

    def full(self) -> errors.QueueFull:
        """What is said to who finds no room."""
        limits = ", ".join(f"{limit} {sizer}" for sizer, limit in self.limits.items())
        return errors.QueueFull(f"the sending queue is full ({limits})")

    def take(self, size: Size) -> None:
        """Take room."""
        self.used = self.used.plus(size)

    def give_back(self, size: Size) -> None:
        """Give it back."""
        self.used = self.used.plus(size, -1)

    def _most(self, sizer: Sizer, weight: int) -> int:
        limit = self.limits[sizer]
        return limit if weight >= weights.CRITICAL else limit - int(limit * self.reserve)
