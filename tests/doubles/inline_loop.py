"""Virtual time for what has a thread: its work is done at once, where it is asked for.

A database's thread needs real time, in which virtual time would run ahead by hours. Here nothing runs
beside the loop, and only timers move the clock:

    inline_loop.run(main())
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from doubles import virtual_loop

T = TypeVar("T")


class InlineLoop(virtual_loop.VirtualLoop):
    """`run_in_executor` runs the function before it returns."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  # who waits must hear of it
            done.set_exception(error)
        return done


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=InlineLoop) as runner:
        return runner.run(main)
