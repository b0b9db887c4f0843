"""One try of a request: what the links between `retry` and `push` pass on."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from otel_oom.pipeline.sending.request import Answer, Request


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """A request and its past: how many tries it had, and how many of them timed out."""

    request: Request
    tries: int = 0
    timeouts: int = 0


class AttemptSender(Protocol):
    """A link that sees each try."""

    async def send(self, attempt: Attempt) -> Answer:
        """Try once; raises as `Sender.send` does."""
