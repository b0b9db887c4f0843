"""The calls that requests of all weights but the critical share."""

from __future__ import annotations

from collections.abc import Callable

from otel_oom import errors
from otel_oom.pipeline import weights
from otel_oom.pipeline.sending.attempt import Attempt, AttemptSender
from otel_oom.pipeline.sending.request import Answer
from otel_oom.pipeline.weighted import Turns


class TurnSender:
    """Lets a try wait for its turn; one that is critical waits for nobody.

    A turn is had for a try, and not for the wait until the next one.
    """

    def __init__(self, turns: Turns, then: AttemptSender) -> None:
        self._turns = turns
        self._then = then
        self.has_more: Callable[[int], bool] = lambda _: False
        """Whether the queue has another request of a weight, to be sent as soon as one is done."""

    def leave(self, weight: int) -> None:
        """Whatever `has_more` said of a weight, nothing of it comes now."""
        self._turns.leave(weight)

    async def send(self, attempt: Attempt) -> Answer:
        """Send once it is its weight's turn."""
        weight = attempt.request.weight
        if weight >= weights.CRITICAL:
            return await self._then.send(attempt)
        await self._turns.take(weight)
        is_done = False
        try:
            answer = await self._then.send(attempt)
            is_done = True
        except errors.Permanent:
            is_done = True
            raise
        finally:
            comes_back = is_done and self.has_more(weight)
            self._turns.give_back(weight, comes_back=comes_back)
        return answer
