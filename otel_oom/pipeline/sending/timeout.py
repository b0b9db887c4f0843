"""The time that one try may take."""

from __future__ import annotations

import asyncio

from otel_oom import errors
from otel_oom.pipeline.sending.request import Answer, Request, Sender


class TimeoutSender:
    """Cancels a try that takes longer than `timeout_s` seconds; 0 lets it take any time."""

    def __init__(self, timeout_s: float, then: Sender) -> None:
        self._timeout_s = timeout_s
        self._then = then

    async def send(self, request: Request) -> Answer:
        """Send in time, or raise `errors.Retryable` with `timed_out` set."""
        try:
            async with asyncio.timeout(self._timeout_s or None):
                return await self._then.send(request)
        except TimeoutError:
            raise errors.Retryable(
                f"no answer within {self._timeout_s:g} s (timeout)", timed_out=True
            ) from None
