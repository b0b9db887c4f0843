"""Every OOM kill of the host as an OTLP log record and a span, and proof that none is missing.

Kubernetes does not say which process the kernel killed, and tools that hook oom_kill_process
mistake who asked for memory for who died, and see one kill where a whole cgroup died. This
receiver takes the victim from the kernel's own mark, its command line from its own context,
and holds its count against the kernel's.
"""

from __future__ import annotations

import asyncio
import functools
import pathlib
from collections.abc import Mapping

from otel_oom import errors
from otel_oom.pipeline import component, receiving, weights
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Signal
from otel_oom.receivers.oom import capture, doctor, state, view
from otel_oom.receivers.oom.config import Config

_RECHECK_S = 0.3


class OomReceiver:
    """Ring to OTLP. The kernel's ring is drained by the event loop; no kill is polled for."""

    def __init__(
        self,
        settings: component.Settings,
        config: Config,
        consumers: Mapping[Signal, Consumer],
    ) -> None:
        self._settings = settings
        self._config = config
        self._outbox = receiving.Outbox(settings, consumers)
        self._tasks: list[asyncio.Task[None]] = []
        self._sender: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._capture: capture.Capture | None = None
        self._summary: list[str] = []
        self._recent = view.Recent()
        self._unsaved: tuple[int, state.Saved] | None = None

    async def start(self) -> None:
        """Read the counters, attach the probes, then report what happened since the last run."""
        root = pathlib.Path(self._config.root_path)
        try:
            running = capture.Capture(
                root, self._config, self._settings.version, self._settings.incidents
            )
        except (errors.BpfError, OSError) as error:
            raise errors.ComponentError(f"OOM kills cannot be captured: {error}") from error
        self._capture = running
        self._register(running)
        self._outbox.put(running.missed_while_down())
        loop = asyncio.get_running_loop()
        loop.add_reader(running.ring.fd, self._on_ring, running)
        self._tasks = [
            receiving.supervised(self._settings, self._reconcile(running), "oom-reconcile"),
            receiving.supervised(self._settings, self._collect(running), "oom-collect"),
        ]
        sending = self._outbox.send(lambda: self._on_room(running))
        self._sender = receiving.supervised(self._settings, sending, "oom-send")
        self._settings.report(component.Status(component.State.OK, running.describe()))

    def _register(self, running: capture.Capture) -> None:
        ledger, name = self._settings.ledger, self._settings.name
        ledger.hold(name, self._outbox.held)
        self._settings.views.offer(name, functools.partial(self._recent.make, running.kernel_lost))
        ledger.gauge("kernel_lost", name, running.kernel_lost)
        ledger.gauge("oom_reconcile_difference", name, running.difference)

    async def shutdown(self) -> None:
        """Stop capturing, report what is known of the last kills, and say how the books stand."""
        running, self._capture = self._capture, None
        if running is None:
            return
        self._settings.views.withdraw(self._settings.name)
        asyncio.get_running_loop().remove_reader(running.ring.fd)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer:
            self._timer.cancel()
        try:
            ready, missed = running.finish()
            self._emit_ready(running, ready)
            self._outbox.put(missed)
            self._outbox.put(running.metric())
            self._summary = running.summary()
            self._outbox.end()
            if self._sender:
                await self._sender
            running.save(running.books())
        finally:
            self._outbox.drop()
            running.close()

    def summary(self) -> list[str]:
        """How the identities stand, a line each."""
        return self._capture.summary() if self._capture else self._summary

    def _on_ring(self, running: capture.Capture) -> None:
        """Take what the ring has, unless the way out is blocked: then it waits in the ring."""
        loop = asyncio.get_running_loop()
        if self._outbox.is_full:
            loop.remove_reader(running.ring.fd)
            return
        running.drain(loop.time())
        self._emit_due(running)

    def _emit_due(self, running: capture.Capture) -> None:
        """Send on what is ready, and come back when the next kill has settled."""
        loop = asyncio.get_running_loop()
        self._emit_ready(running, running.ready(loop.time()))
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if running.has_backlog:
            self._timer = loop.call_soon(self._on_ring, running)
        elif (due_s := running.next_s()) is not None:
            self._timer = loop.call_at(due_s, self._emit_due, running)

    def _emit_ready(self, running: capture.Capture, ready: capture.Ready) -> None:
        reports, spans = ready
        if reports:
            self._recent.note(reports)
            self._outbox.put(running.logs(reports))
        if spans:
            self._outbox.put(running.spans(spans))

    def _on_room(self, running: capture.Capture) -> None:
        """Read the ring again, but not while it stops: the ring will be gone."""
        if self._capture is running:
            asyncio.get_running_loop().add_reader(running.ring.fd, self._on_ring, running)
            if running.has_backlog:
                self._emit_due(running)

    async def _reconcile(self, running: capture.Capture) -> None:
        while True:
            batch, is_pending = running.check()
            self._outbox.put(batch)
            self._save(running)
            await asyncio.sleep(_RECHECK_S if is_pending else self._config.reconcile_interval)

    def _save(self, running: capture.Capture) -> None:
        """Keep the books of a moment, once as many records have left the agent as it had made.

        Until then an agent that is killed loses records, and the next start tells of them.
        """
        balance = self._settings.ledger.balance(Signal.LOGS)
        made = balance.produced + balance.copied
        if self._unsaved is None:
            self._unsaved = made, running.books()
        due, saved = self._unsaved
        if made - balance.held - balance.difference >= due:
            running.save(saved)
            self._unsaved = None

    async def _collect(self, running: capture.Capture) -> None:
        while True:
            await asyncio.sleep(self._config.collection_interval)
            self._outbox.put(running.metric())


FACTORY = component.Factory(
    type_name="oom",
    kind=component.Kind.RECEIVER,
    config=Config,
    create=OomReceiver,
    signals={
        Signal.LOGS: component.Stability.ALPHA,
        Signal.TRACES: component.Stability.ALPHA,
        Signal.METRICS: component.Stability.ALPHA,
    },
    doctor=doctor.checks,
    weight=weights.CRITICAL,
)
