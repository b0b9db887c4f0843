"""The tasks that empty a queue: so many for each weight, so that none waits for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

Work = Callable[[int], Coroutine[Any, Any, None]]
"""Sends what comes of a weight, until the queue is closed."""


class Senders:
    """Made for a weight when something of it first comes."""

    def __init__(self, consumers: Callable[[int], int], work: Work) -> None:
        self._consumers = consumers
        self._work = work
        self._is_running = False
        self._tasks: dict[int, list[asyncio.Task[None]]] = {}

    def start(self) -> None:
        """Begin with the weights that are known."""
        self._is_running = True
        for weight in self._tasks:
            self._begin(weight)

    def need(self, weight: int) -> None:
        """Something of a weight has come."""
        if weight not in self._tasks:
            self._tasks[weight] = []
            if self._is_running:
                self._begin(weight)

    async def finish(self) -> None:
        """Wait until all have ended; if that is cancelled, end them."""
        tasks = [task for of_weight in self._tasks.values() for task in of_weight]
        self._tasks.clear()
        self._is_running = False
        await asyncio.gather(*tasks)

    def _begin(self, weight: int) -> None:
        number = self._consumers(weight)
        self._tasks[weight] = [asyncio.create_task(self._work(weight)) for _ in range(number)]
