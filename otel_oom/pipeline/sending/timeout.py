"""The time that one try may take."""

from __future__ import annotations

import asyncio

from otel_oom import errors
from otel_oom.pipeline.attempts.timeouts import Timeouts
from otel_oom.pipeline.sending.attempt import Attempt
from otel_oom.pipeline.sending.request import Answer, Sender


class TimeoutSender:
    """Cancels a try that takes longer than `timeouts` give it; None lets it take any time."""

    def __init__(self, timeouts: Timeouts | None, then: Sender) -> None:
        self._timeouts = timeouts
        self._then = then

    async def send(self, attempt: Attempt) -> Answer:
        """Send in time, or raise `errors.Retryable` with `timed_out` set."""
        if self._timeouts is None:
            return await self._then.send(attempt.request)
        limit = self._timeouts.limit(attempt.request.weight, attempt.timeouts)
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limit.seconds):
                answer = await self._then.send(attempt.request)
        except TimeoutError:
            self._timeouts.timed_out(limit)
            raise errors.Retryable(
                f"no answer within {limit.seconds:.3g} s (timeout)", timed_out=True
            ) from None
        if attempt.tries == 0:
            self._timeouts.answered(asyncio.get_running_loop().time() - began_s)
        return answer
