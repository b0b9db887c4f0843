"""Latency of every block request, and of each slow one a span that says where it waited.

Averages of /proc/diskstats hide the slow requests, and tools that trace each request cost more
than they find. This receiver counts every request in the kernel, in the buckets of OTLP's own
exponential histograms, by device, operation and cgroup; only what is slow comes to user space.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping

from otel_oom import errors
from otel_oom.pipeline import component, receiving
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Signal
from otel_oom.receivers.storage import doctor, tiers
from otel_oom.receivers.storage.capture import Capture
from otel_oom.receivers.storage.config import Config


class StorageReceiver:
    """Tiers to OTLP: slow operations by the event loop as they come, counts by the clock."""

    def __init__(
        self,
        settings: component.Settings,
        config: Config,
        consumers: Mapping[Signal, Consumer],
    ) -> None:
        self._settings = settings
        self._config = config
        self._outbox = receiving.Outbox(settings, consumers)
        self._collector: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._capture: Capture | None = None
        self._detail = ""
        self._summary: list[str] = []

    async def start(self) -> None:
        """Attach every tier that this kernel allows; there must be one."""
        settings = self._settings
        running = Capture(self._config, settings.version, settings.incidents)
        if not running.tiers:
            reasons = "; ".join(f"{name}: {why}" for name, why in running.left_out.items())
            running.close()
            raise errors.ComponentError(f"storage operations cannot be seen: {reasons}")
        self._capture = running
        name, ledger = settings.name, settings.ledger
        ledger.hold(name, self._outbox.held)
        ledger.gauge("kernel_lost", name, running.lost)
        settings.views.offer(name, running.viewer.make)
        self._report(running)
        self._listen(running)
        self._collector = receiving.supervised(
            self._settings, self._collect(running), "storage-collect"
        )
        sending = self._outbox.send(functools.partial(self._listen, running))
        self._sender = receiving.supervised(self._settings, sending, "storage-send")

    def _report(self, running: Capture) -> None:
        """Say how storage is seen, again if that has changed."""
        detail = running.describe()
        if detail != self._detail:
            self._detail = detail
            self._settings.report(component.Status(component.State.OK, detail))

    async def shutdown(self) -> None:
        """Stop counting, tell all that was counted, and say how the sums stand."""
        running, self._capture = self._capture, None
        if running is None:
            return
        self._settings.views.withdraw(self._settings.name)
        running.viewer.forget()
        self._unlisten(running)
        if self._collector:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
        try:
            running.finish(self._outbox.put)
            self._summary = running.summary()
            self._outbox.end()
            if self._sender:
                await self._sender
        finally:
            self._outbox.drop()
            running.close()

    def summary(self) -> list[str]:
        """How the sums stand, a line each."""
        return self._capture.summary() if self._capture else self._summary

    def _listen(self, running: Capture) -> None:
        """Read every ring, again if there is room again, but not while the receiver stops."""
        if self._capture is running:
            for tier in running.tiers:
                asyncio.get_running_loop().add_reader(tier.fd, self._on_ring, running, tier)

    def _unlisten(self, running: Capture) -> None:
        for tier in running.tiers:
            asyncio.get_running_loop().remove_reader(tier.fd)

    def _on_ring(self, running: Capture, tier: tiers.Tier) -> None:
        """Take what a ring has, unless the way out is blocked: then it waits in the ring."""
        if self._outbox.is_full:
            self._unlisten(running)
        else:
            running.take(tier, self._outbox.put)

    async def _collect(self, running: Capture) -> None:
        while True:
            await asyncio.sleep(self._config.collection_interval)
            running.collect(self._outbox.put)
            self._report(running)


FACTORY = component.Factory(
    type_name="storage",
    kind=component.Kind.RECEIVER,
    config=Config,
    create=StorageReceiver,
    signals={
        Signal.LOGS: component.Stability.DEVELOPMENT,
        Signal.TRACES: component.Stability.DEVELOPMENT,
        Signal.METRICS: component.Stability.DEVELOPMENT,
    },
    doctor=doctor.checks,
)
