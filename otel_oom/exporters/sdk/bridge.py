"""One SDK exporter, for one signal, as a link of our chain of senders."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import logging
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from otel_oom import errors
from otel_oom.exporters.sdk.verdict import Verdicts
from otel_oom.exporters.sdk.worker import Worker
from otel_oom.pipeline.data import MESSAGES, Signal
from otel_oom.pipeline.sending.request import Answer, Request

_CONVERTERS = {Signal.LOGS: "logs", Signal.TRACES: "spans", Signal.METRICS: "metrics"}
_UNCLAIMED = 64
"""Calls whose request was given up while they went on, and that are remembered."""

_WORDS = 3
"""Last lines of an exporter's log that tell of its failure."""


class _Outcome(NamedTuple):
    """How a call ended; `words` are the exporter's, if it failed."""

    is_taken: bool
    answer: Answer
    words: str = ""


class Bridge:
    """Converts, calls the exporter on its thread, and reads SUCCESS or FAILURE."""

    def __init__(self, signal: Signal, exporter: Any, thread_name: str) -> None:
        self._signal = signal
        self._exporter = exporter
        self._worker = Worker(thread_name)
        self._verdicts = Verdicts()
        self._words = "it does not say why"
        self._calls: dict[int, tuple[Request, asyncio.Future[_Outcome]]] = {}

    async def send(self, request: Request) -> Answer:
        """Send a request, or wait on for a call with it that an earlier try gave up on.

        A thread cannot be stopped: to call again while it goes on would send the request twice.
        """
        key = id(request)
        if key not in self._calls:
            self._forget_some()
            self._calls[key] = (request, self._called(request))
        _, call = self._calls[key]
        await asyncio.wait((call,))
        del self._calls[key]
        return self._judged(request, self._outcome(call))

    async def close(self) -> None:
        """Let the exporter send what it holds and end; not waited for longer than our caller."""
        try:
            await self._worker.call(functools.partial(_shut_down, self._exporter))
        finally:
            self._worker.close()

    def _outcome(self, call: asyncio.Future[_Outcome]) -> _Outcome:
        try:
            return call.result()
        except Exception as error:
            raise errors.Permanent(
                f"it cannot be made of the SDK's objects: {type(error).__name__}: {error}"
            ) from error

    def _called(self, request: Request) -> asyncio.Future[_Outcome]:
        return self._worker.call(functools.partial(self._export, request))

    def _forget_some(self) -> None:
        """Forget ended calls of which there are too many, whose requests were given up."""
        ended = [key for key, (_, call) in self._calls.items() if call.done()]
        for key in ended[:-_UNCLAIMED]:
            del self._calls[key]

    def _judged(self, request: Request, outcome: _Outcome) -> Answer:
        if outcome.is_taken:
            self._verdicts.took(request)
            return outcome.answer
        if self._verdicts.is_at_fault(request):
            raise errors.Permanent(
                f"the exporter fails with this request while it takes others: {outcome.words}"
            )
        raise errors.Retryable(outcome.words)

    def _export(self, request: Request) -> _Outcome:
        """On the thread."""
        converter = importlib.import_module(f"otel_oom.exporters.sdk.{_CONVERTERS[self._signal]}")
        values = importlib.import_module("otel_oom.exporters.sdk.values")
        losses = values.Losses()
        data = converter.converted(MESSAGES[self._signal].FromString(request.body), losses)
        answer = Answer(losses.items, losses.message())
        if losses.items == request.items:
            return _Outcome(is_taken=True, answer=answer)
        with _heard() as words:
            failure = _failure(self._exporter, data)
        if words:  # an exporter does not repeat itself
            self._words = "; ".join(list(dict.fromkeys(words))[-_WORDS:])
        return _Outcome(not failure, answer, f"{failure}: {self._words}" if failure else "")


def _failure(exporter: Any, data: Any) -> str:
    """Export, and flush what keeps some back; empty is good."""
    try:
        result = exporter.export(data)
        if getattr(result, "name", "") != "SUCCESS":
            return f"export: {getattr(result, 'name', repr(result))}"
        flush = getattr(exporter, "force_flush", None)
        if flush is not None and flush() is False:
            return "force_flush: it could not send what it keeps"
    except Exception as error:  # noqa: BLE001  # an exporter must not raise, and some do
        return f"{type(error).__name__}: {error}"
    return ""


def _shut_down(exporter: Any) -> None:
    exporter.shutdown()


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What this thread logs from WARNING on: an exporter says there why it failed."""
    ear = _Ear()
    logging.getLogger().addHandler(ear)
    try:
        yield ear.words
    finally:
        logging.getLogger().removeHandler(ear)


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.words.append(record.getMessage())
