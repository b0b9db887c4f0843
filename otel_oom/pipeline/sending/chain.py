"""How a batch leaves the agent: the chain of senders that every exporter is built on.

    consume -> encode, split -> queue, join -> account -> retry -> turn -> observe -> timeout
    -> push

An exporter gives only the last link, its transport, and its configs. The order is the collector's
(exporterhelper): so a counter knows the final outcome of a request and not of each try, and a
time-out bounds one try and not the waits between them. A turn is one of the calls that requests of
lower weights share.
"""

from __future__ import annotations

import dataclasses

from otel_oom import errors
from otel_oom.config.types import Duration
from otel_oom.pipeline.component import Settings
from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.sending import entry, limits
from otel_oom.pipeline.sending.account import Account
from otel_oom.pipeline.sending.observe import Journal, ObserveSender
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Request, Transport
from otel_oom.pipeline.sending.retry import RetryConfig, RetrySender
from otel_oom.pipeline.sending.timeout import TimeoutSender
from otel_oom.pipeline.sending.turns import TurnSender
from otel_oom.pipeline.weighted import Turns


class Exporter:
    """An exporter whose requests go out by `push`, which lives as long as it does.

    `encode` makes the body of a request of at most `max_bytes`; `timeout_s` bounds one try.
    """

    def __init__(
        self,
        settings: Settings,
        push: Transport,
        *,
        queue: QueueConfig,
        retry: RetryConfig,
        timeout_s: float,
        encode: limits.Encode = limits.protobuf,
        max_bytes: int = limits.MAX_REQUEST_BYTES,
    ) -> None:
        self._push = push
        if queue.storage is not None:
            retry = dataclasses.replace(retry, max_elapsed_time=Duration(0))
        journal = Journal(settings)
        idleness = settings.resources.idleness
        observed = ObserveSender(journal, TimeoutSender(retry.timeouts(timeout_s, idleness), push))
        turns = TurnSender(Turns(queue.shared_calls), observed)
        self._retry = RetrySender(retry, turns if queue.enabled else observed, idleness)
        self._account = Account(settings, journal, self._retry)
        self._entry = entry.create(
            settings, queue, self._account, turns=turns, encode=encode, max_bytes=max_bytes
        )
        self._encode = encode
        self._max_bytes = max_bytes

    async def start(self) -> None:
        """Open the transport, or raise `errors.ComponentError`; begin to send."""
        await self._push.open()
        await self._entry.start()

    async def consume(self, batch: Batch) -> None:
        """Take a batch, or raise `errors.Refused` when none of it was taken."""
        taken = False
        for part, body in limits.encoded_parts(batch, self._encode, self._max_bytes):
            if body is None:
                self._account.too_large(part)
            elif part.items:
                request = Request(part.signal, body, part.items, weight=part.weight)
                await self._accept(part, request, batch, taken)
            taken = True

    async def _accept(self, part: Batch, request: Request, batch: Batch, taken: bool) -> None:
        """Take one part. Once another was taken, a refused part is ours to count as dropped."""
        try:
            await self._entry.accept(request)
        except errors.Refused as refusal:
            self._account.refused(batch.signal, part.items if taken else batch.items)
            if not taken:
                raise
            self._account.drop_refused(request, refusal.reason)

    async def shutdown(self) -> None:
        """End the waits between tries and send what is held, in the time that the caller gives."""
        self._retry.stop()
        try:
            await self._entry.shutdown()
        finally:
            await self._push.close()
