"""An event loop whose clock stands still while there is work and jumps when there is none.

A test of minutes of back-off takes milliseconds and sees exact times. For code without real
I/O only: the clock would jump over a network's or a thread's answer.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class _Selector(selectors.DefaultSelector):
    """Reports that a wait is over at once, after moving the clock by it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.on_turn: Callable[[], None] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.on_turn is not None:
            self.on_turn()
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            if not ready and timeout is None:
                raise RuntimeError("every task waits for something that nothing will bring")
            return ready
        self.now_s = round(self.now_s + timeout, 9)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 and moves only by timers."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9

    def watch(self, check: Callable[[], None] | None) -> None:
        """Call `check` between any two rounds of callbacks, so that it sees every instant."""
        self._virtual.on_turn = check

    def time(self) -> float:
        return self._virtual.now_s


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now_s() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()


def scenario(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, None]:
    """Make of an asynchronous test one that runs in virtual time."""

    @functools.wraps(test)
    def in_virtual_time(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return in_virtual_time
