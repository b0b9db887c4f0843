"""What an exporter's senders pass on: a batch encoded once, and the contract between them."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol

from otel_oom.pipeline import weights
from otel_oom.pipeline.data import Signal

Sizer = Literal["requests", "items", "bytes"]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One export request: `body` is the encoded batch that will be sent, as it is, each try.

    `weight` says how urgent it is, from 1 to 10. One that was joined of several tells how many, and
    how much shorter its body is than theirs.
    """

    signal: Signal
    body: bytes
    items: int
    requests: int = 1
    saved_bytes: int = 0
    weight: int = weights.DEFAULT

    def size(self, sizer: Sizer) -> int:
        """Its size in one of the units; if joined, the sum of those that it was joined of."""
        if sizer == "bytes":
            return len(self.body) + self.saved_bytes
        return self.items if sizer == "items" else self.requests


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said to a request that it took: OTLP's partial success, if any."""

    rejected: int = 0
    message: str = ""


class Sender(Protocol):
    """One link of the chain queue -> account -> retry -> observe -> timeout -> push."""

    async def send(self, request: Request) -> Answer:
        """Send a request.

        Raises `errors.Retryable` or `errors.Permanent`, and `errors.GaveUp` from the link that
        retries. Cancellation stops the call at once; the outcome is then unknown.
        """


class Transport(Sender, Protocol):
    """The last link of the chain, `push`: what an exporter has of its own."""

    async def open(self) -> None:
        """Get ready to send, or raise `errors.ComponentError` with the cause and the remedy."""

    async def close(self) -> None:
        """Let go of everything. Safe before `open`, and twice."""
