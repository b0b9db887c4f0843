"""Any installed OpenTelemetry SDK exporter, a vendor's as well, as a destination.

It is found by the name that `OTEL_TRACES_EXPORTER` and its sisters take. It stands at the end of
the same chain as our own exporters: queue, retry and accounting are ours. For OTLP use `otlp_grpc`
or `otlp_http`: they tell a refusal from an absence, and convert nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from otel_oom import errors
from otel_oom.exporters.sdk import installed
from otel_oom.exporters.sdk.bridge import Bridge
from otel_oom.exporters.sdk.config import Config
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending import chain as sending
from otel_oom.pipeline.sending.request import Answer, Request

_log = logging.getLogger(__name__)


class Push:
    """The exporters of one name, one for each signal."""

    def __init__(self, config: Config, settings: component.Settings) -> None:
        self._config = config
        self._name = settings.name
        self._bridges: dict[Signal, Bridge] = {}

    async def open(self) -> None:
        """Import and make them, so that a wrong argument stops the start."""
        for signal in self._config.loaded():
            made = await asyncio.to_thread(self._made, signal)
            self._bridges[signal] = Bridge(signal, made, f"{self._name} {signal}")

    async def send(self, request: Request) -> Answer:
        """Send one request."""
        if request.signal not in self._bridges:
            raise errors.Permanent(f"`{self._config.exporter}` takes no {request.signal}")
        return await self._bridges[request.signal].send(request)

    async def close(self) -> None:
        """End them all at the same time."""
        bridges, self._bridges = self._bridges, {}
        ends = (bridge.close() for bridge in bridges.values())
        for failure in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(failure, BaseException):
                _log.warning("exporter %s failed to stop: %r", self._name, failure)

    def _made(self, signal: Signal) -> Any:
        make = installed.load(self._config.exporter, signal)
        try:
            made = make(**self._config.arguments(signal))
        except Exception as error:
            raise errors.ComponentError(
                f"`{self._config.exporter}` cannot be made for {signal}: "
                f"{type(error).__name__}: {error}; see `options`"
            ) from error
        self._warn_of_temporality(made)
        return made

    def _warn_of_temporality(self, made: Any) -> None:
        preferred = getattr(made, "_preferred_temporality", None) or {}
        if any(value.name == "DELTA" for value in preferred.values()):
            _log.warning(
                "exporter %s: `%s` prefers delta metrics; it gets them as the receiver makes them",
                self._name, self._config.exporter,
            )  # fmt: skip


def create(settings: component.Settings, config: Config) -> sending.Exporter:
    """The exporter: our chain of senders that ends in `Push`."""
    return sending.Exporter(
        settings,
        Push(config, settings),
        queue=config.sending_queue,
        retry=config.retry_on_failure,
        timeout_s=config.timeout,
    )


FACTORY = component.Factory(
    type_name="sdk",
    kind=component.Kind.EXPORTER,
    config=Config,
    create=create,
    signals=dict.fromkeys(Signal, component.Stability.ALPHA),
    carries=Config.loaded,
)
