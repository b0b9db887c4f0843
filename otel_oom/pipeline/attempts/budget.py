"""No storm on a destination that fails: tokens, and one try at a time once they are spent.

The tokens are gRPC's (proposal A6, retry throttling): a failure takes one, a time-out two, an
answer gives a part of one back, and with no more than half of them left nothing is tried again
freely. gRPC then gives up. Here nothing is: what waits takes turns, one try at a time and the
heaviest first, and the first answer lets all of them go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

_PER_ANSWER = 0.1
_PER_FAILURE = 1.0
_PER_TIMEOUT = 2.0


class Budget:
    """The tokens of one destination, full at first; `tokens` of 0 is a budget without a limit."""

    def __init__(self, tokens: float) -> None:
        self._most = tokens
        self._left = tokens

    @property
    def left(self) -> float:
        """Tokens now."""
        return self._left

    @property
    def is_spent(self) -> bool:
        """Whether no more than half is left."""
        return 0 < self._most >= 2 * self._left

    def failed(self, *, timed_out: bool) -> None:
        """Take what a failure costs."""
        cost = _PER_TIMEOUT if timed_out else _PER_FAILURE
        self._left = max(0.0, self._left - cost)

    def answered(self) -> None:
        """Give back what an answer earns; an answer while it is spent opens it."""
        if self.is_spent:
            self._left = self._most / 2
        self._left = min(self._most, self._left + _PER_ANSWER)


@dataclasses.dataclass(slots=True, eq=False)
class _Turn:
    weight: int
    granted: asyncio.Future[bool]


class Gate:
    """Where what failed waits for its next try while the budget is spent."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waiting: list[_Turn] = []
        self._is_probed = False
        self._not_before_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def is_closed(self) -> bool:
        """Whether who tries again has to take turns."""
        return self._budget.is_spent and not self._stopped

    async def enter(self, weight: int, latest_s: float | None) -> bool:
        """Wait for a turn, at most until `latest_s` of the loop's clock.

        True: this is the one try of now, and `leave` must be called after it.
        """
        if not self.is_closed:
            return False
        turn = _Turn(weight, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        self._call()
        try:
            async with asyncio.timeout_at(latest_s):
                return await turn.granted
        except BaseException as failure:
            self._withdraw(turn)
            if isinstance(failure, TimeoutError):
                return False
            raise

    def leave(self) -> None:
        """The one try is over; call it after `failed` or `answered`."""
        self._is_probed = False
        self._call()

    def failed(self, *, timed_out: bool, wait_s: float) -> None:
        """A try failed; while turns are taken, the next is not before `wait_s` seconds."""
        self._budget.failed(timed_out=timed_out)
        if self._budget.is_spent:
            now_s = asyncio.get_running_loop().time()
            self._not_before_s = max(self._not_before_s, now_s + wait_s)
            self._call()

    def answered(self) -> None:
        """The destination answered, whatever it said: let everybody go on."""
        self._budget.answered()
        self._not_before_s = 0.0
        self._call()

    def stop(self) -> None:
        """Let everybody go on, from now on."""
        self._stopped = True
        self._call()

    def _call(self) -> None:
        """Call whoever may go on now, or see to it that someone is called when it is time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.is_closed:
            for turn in self._waiting:
                _grant(turn, is_probe=False)
            self._waiting.clear()
        elif self._waiting and not self._is_probed:
            self._call_heaviest()

    def _call_heaviest(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before_s:
            self._timer = loop.call_at(self._not_before_s, self._due)
            return
        turn = max(self._waiting, key=lambda one: one.weight)  # the first of equals
        self._waiting.remove(turn)
        self._is_probed = True
        _grant(turn, is_probe=True)

    def _due(self) -> None:
        self._not_before_s = 0.0  # not compared again: a timer may be early by a clock's tick
        self._call()

    def _withdraw(self, turn: _Turn) -> None:
        """Who waited is gone; a turn that was given to it meanwhile is given back."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(turn)
        if turn.granted.done() and not turn.granted.cancelled() and turn.granted.result():
            self.leave()


def _grant(turn: _Turn, *, is_probe: bool) -> None:
    if not turn.granted.done():
        turn.granted.set_result(is_probe)
