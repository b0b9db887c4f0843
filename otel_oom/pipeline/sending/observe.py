"""What a person hears of an exporter: its status, and a log line when something changes.

A destination that is down fails every request, so lines are limited per condition and not
written per request; every request is in the counters.
"""

from __future__ import annotations

import asyncio
import enum
import logging

from otel_oom import errors
from otel_oom.pipeline.component import Settings, State, Status
from otel_oom.pipeline.sending.attempt import Attempt, AttemptSender
from otel_oom.pipeline.sending.request import Answer

_log = logging.getLogger(__name__)

REPEAT_S = 60.0
"""Time in seconds after which a condition that still holds is logged again."""


class Condition(enum.Enum):
    """How it goes between an exporter and its destination: (log level, state)."""

    SENDING = "sends", logging.INFO, State.OK
    WARNED = "sends, with a warning of the destination", logging.WARNING, State.OK
    RETRYING = "cannot send and tries again", logging.WARNING, State.RECOVERABLE_ERROR
    PARTIAL = "was refused a part", logging.ERROR, State.RECOVERABLE_ERROR
    REFUSED = "was refused for good", logging.ERROR, State.RECOVERABLE_ERROR
    DROPPING = "gave up a request", logging.ERROR, State.RECOVERABLE_ERROR

    def __init__(self, text: str, level: int, state: State) -> None:
        self.text = text
        self.level = level
        self.state = state


class Journal:
    """Turns conditions into log lines and statuses, without repeating itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._current = Condition.SENDING
        self._logged_at_s: dict[Condition, float] = {}

    def note(self, condition: Condition, detail: str = "") -> None:
        """Say that a condition holds; `detail` is one line for a person."""
        if condition is not self._current:
            self._current = condition
            self._settings.report(Status(condition.state, detail))
        elif condition is Condition.SENDING:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s - self._logged_at_s.get(condition, -REPEAT_S) >= REPEAT_S:
            self._logged_at_s[condition] = now_s
            text = f"{condition.text}: {detail}" if detail else condition.text
            _log.log(condition.level, "exporter %s %s", self._settings.name, text)


class ObserveSender:
    """Notes how each single try went."""

    def __init__(self, journal: Journal, then: AttemptSender) -> None:
        self._journal = journal
        self._then = then

    async def send(self, attempt: Attempt) -> Answer:
        """Send, and note the result."""
        try:
            answer = await self._then.send(attempt)
        except errors.Retryable as failure:
            self._journal.note(Condition.RETRYING, str(failure))
            raise
        except errors.Permanent as failure:
            self._journal.note(Condition.REFUSED, str(failure))
            raise
        self._journal.note(*_told(answer))
        return answer


def _told(answer: Answer) -> tuple[Condition, str]:
    if answer.rejected:
        return Condition.PARTIAL, f"{answer.rejected} items rejected: {answer.message}"
    return (Condition.WARNED, answer.message) if answer.message else (Condition.SENDING, "")
