"""How long to wait before a server is asked again: longer each time, and never in step."""

from __future__ import annotations

import asyncio
import random

FIRST_S = 0.5
MOST_S = 30.0
"""Waits in seconds: the first, and the longest, which a server may lengthen."""

FORGET_S = 120.0
"""Time in seconds without a failure after which the next one is the first again."""


class Backoff:
    """Doubles from `FIRST_S` to `MOST_S`, and is spread so that agents do not ask at once.

    It is not reset by a success: a server that answers and fails in turn must not be asked
    without pause.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311  # spreads load, keeps no secret
        self._next_s = FIRST_S
        self._until_s = 0.0

    def delay_s(self, asked_s: float | None = None) -> float:
        """The next wait in seconds, not shorter than what the server asked for."""
        now_s = asyncio.get_running_loop().time()
        if now_s > self._until_s + FORGET_S:
            self._next_s = FIRST_S
        delay_s = max(self._next_s, asked_s or 0.0) * self._chance.uniform(1.0, 1.5)
        self._next_s = min(2 * self._next_s, MOST_S)
        self._until_s = now_s + delay_s
        return delay_s
