"""Turns at what not all can use at once, given out by weight.

Of those that want a turn, each weight gets at least `LEAST_SHARE` of the turns, and of the rest as
much as its weight says: 5 and 3 share 6 to 4. It is start-time fair queuing (Goyal, Vin and Cheng,
1996) with turns of equal cost: the weight that is served next is the one whose next turn begins
first in virtual time, and a turn lasts the longer there, the smaller the share.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Collection

LEAST_SHARE = 0.1
"""Of the turns, for each weight that wants one: ten weights cannot all have more."""


def shares(weights: Collection[int]) -> dict[int, float]:
    """The part of the turns that each of these different weights gets."""
    least = min(LEAST_SHARE, 1 / len(weights))
    rest = 1 - least * len(weights)
    return {weight: least + rest * weight / sum(weights) for weight in weights}


@dataclasses.dataclass(slots=True, eq=False)
class _Level:
    """Those of one weight."""

    weight: int
    begins: float
    """When its next turn begins, in virtual time."""
    waiting: collections.deque[asyncio.Future[None]] = dataclasses.field(
        default_factory=collections.deque
    )
    kept: int = 0
    """Turns that are kept for it: it has had one, and comes for the next."""


class Turns:
    """At most `limit` at a time. A turn is `take`, then `give_back`."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._now = 0.0
        self._levels: dict[int, _Level] = {}

    async def take(self, weight: int) -> None:
        """Wait for a turn and have it."""
        level = self._levels.setdefault(weight, _Level(weight, self._now))
        if level.kept:
            level.kept -= 1
            return
        if not level.waiting:
            level.begins = max(level.begins, self._now)  # what it did not want it does not save up
        mine = asyncio.get_running_loop().create_future()
        level.waiting.append(mine)
        self._give_out(None)
        try:
            await mine
        except asyncio.CancelledError:
            self._withdraw(level, mine)
            raise

    def give_back(self, weight: int, *, comes_back: bool) -> None:
        """End a turn; `comes_back` says that someone of this weight comes for another at once.

        Who is first then finds it kept. Otherwise a weight with one sender could never have two
        turns running: the others always wait while it takes its next request.
        """
        self._free += 1
        self._give_out(self._levels[weight] if comes_back else None)

    def leave(self, weight: int) -> None:
        """Nobody of this weight comes back now, whatever was said."""
        level = self._levels.get(weight)
        if level is not None and level.kept:
            self._free += level.kept
            level.kept = 0
            self._give_out(None)

    def _withdraw(self, level: _Level, mine: asyncio.Future[None]) -> None:
        if mine.cancelled():
            level.waiting.remove(mine)
        else:  # it had just been given a turn
            self._free += 1
            self._give_out(None)

    def _give_out(self, returning: _Level | None) -> None:
        """Give the free turns to those who wait, or keep one for who is first and comes back."""
        while self._free and any(level.waiting for level in self._levels.values()):
            wanting = [one for one in self._levels.values() if one.waiting or one is returning]
            first = min(wanting, key=lambda level: (level.begins, -level.weight))
            self._free -= 1
            self._now = first.begins
            first.begins += 1 / shares([level.weight for level in wanting])[first.weight]
            if first.waiting:
                first.waiting.popleft().set_result(None)
            else:
                first.kept += 1
                returning = None
