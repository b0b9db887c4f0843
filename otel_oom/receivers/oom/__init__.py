"""Every OOM kill of the host as an OTLP log record and a span, and proof that none is missing.

Kubernetes does not say which process the kernel killed, and tools that hook oom_kill_process
mistake who asked for memory for who died, and see one kill where a whole cgroup died. This
receiver takes the victim from the kernel's own mark, its command line from its own context,
and holds its count against the kernel's.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import pathlib
from collections.abc import Iterable, Mapping

from otel_oom import errors
from otel_oom.pipeline import component, receiving, weights
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.receivers.oom import doctor, modes, run, state
from otel_oom.receivers.oom.config import Config

logger = logging.getLogger(__name__)

_RECHECK_S = 0.3


class OomReceiver:
    """Kernel to OTLP, by the best capture mode that works; what is left is told by the counters."""

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
        self._run: run.Run | None = None
        self._capture: modes.Capture | None = None
        self._summary: list[str] = []
        self._unsaved: tuple[int, state.Saved] | None = None

    async def start(self) -> None:
        """Read the counters, begin to capture, then report what happened since the last run."""
        try:
            this, chosen, running = self._begin()
        except (errors.BpfError, OSError) as error:
            raise errors.ComponentError(f"OOM kills cannot be captured: {error}") from error
        self._run, self._capture = this, running
        self._register(this)
        self._watch(running)
        self._tasks = [
            receiving.supervised(self._settings, self._reconcile(chosen), "oom-reconcile"),
            receiving.supervised(self._settings, self._collect(this), "oom-collect"),
        ]
        sending = self._outbox.send(self._on_room)
        self._sender = receiving.supervised(self._settings, sending, "oom-send")
        self._report(chosen, running)

    def _begin(self) -> tuple[run.Run, modes.Modes, modes.Capture]:
        root = pathlib.Path(self._config.root_path)
        wanted = tuple(self._config.capture_modes)
        this = run.Run(root, self._config, self._settings.version, self._settings.incidents)
        try:
            base = this.counters()
            if modes.KMSG in wanted:
                this.prepare_log()
            chosen = modes.Modes(this, wanted)
            running = chosen.first(base)
        except BaseException:
            this.close()
            raise
        missed = this.missed_while_down(base)
        if missed is None:
            this.store.save(running.books())
        self._outbox.put(missed)
        return this, chosen, running

    def _register(self, this: run.Run) -> None:
        ledger, name = self._settings.ledger, self._settings.name
        ledger.hold(name, self._outbox.held)
        self._settings.views.offer(name, functools.partial(this.recent.make, self._lost))
        ledger.gauge("kernel_lost", name, self._lost)
        ledger.gauge("oom_reconcile_difference", name, self._difference)

    def _lost(self) -> float:
        before = self._run.lost if self._run else 0.0
        return before + (self._capture.lost() if self._capture else 0.0)

    def _difference(self) -> float:
        return self._capture.difference() if self._capture else 0.0

    async def shutdown(self) -> None:
        """Stop capturing, report what is known of the last kills, and say how the books stand."""
        this, self._run = self._run, None
        running, self._capture = self._capture, None
        if running is None or this is None:
            return
        self._settings.views.withdraw(self._settings.name)
        self._unwatch(running)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            self._put(running.finish())
            self._outbox.put(this.metric())
            self._summary.append(running.summary())
            self._outbox.end()
            if self._sender:
                await self._sender
            this.store.save(running.books())
        finally:
            self._outbox.drop()
            running.close()
            this.close()

    def summary(self) -> list[str]:
        """How the identities stand, a line for each mode that was in use."""
        return [*self._summary, self._capture.summary()] if self._capture else self._summary

    def _watch(self, running: modes.Capture) -> None:
        if running.fd is not None:
            asyncio.get_running_loop().add_reader(running.fd, self._on_readable, running)

    def _unwatch(self, running: modes.Capture) -> None:
        if running.fd is not None:
            asyncio.get_running_loop().remove_reader(running.fd)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_readable(self, running: modes.Capture) -> None:
        """Take what the kernel has, unless the way out is blocked: then it waits there."""
        loop = asyncio.get_running_loop()
        if self._outbox.is_full:
            if running.fd is not None:
                loop.remove_reader(running.fd)
            return
        running.drain(loop.time())
        self._emit_due(running)

    def _emit_due(self, running: modes.Capture) -> None:
        """Send on what is ready, and come back when the next kill has settled."""
        loop = asyncio.get_running_loop()
        self._put(running.ready(loop.time()))
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if running.has_backlog:
            self._timer = loop.call_soon(self._on_readable, running)
        elif (due_s := running.next_s()) is not None:
            self._timer = loop.call_at(due_s, self._emit_due, running)

    def _put(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._outbox.put(batch)

    def _on_room(self) -> None:
        """Read on, but not while it stops: there will be nothing to read from."""
        running = self._capture
        if running is not None:
            self._watch(running)
            if running.has_backlog:
                self._emit_due(running)

    async def _reconcile(self, chosen: modes.Modes) -> None:
        while self._capture is not None:
            running = self._capture
            if why := running.failure():
                is_pending = self._fall(chosen, running, why)
            else:
                batch, is_pending = running.check()
                self._outbox.put(batch)
                self._emit_due(running)
                self._save(running)
                if chosen.has_better(running):
                    is_pending = self._rise(chosen, running)
            await asyncio.sleep(_RECHECK_S if is_pending else self._config.reconcile_interval)

    def _fall(self, chosen: modes.Modes, failed: modes.Capture, why: str) -> bool:
        """Go on with the next mode; what happened in between is in its books. Always true."""
        self._leave(failed)
        following = chosen.after(failed, why)
        logger.warning(
            "OOM kills are captured in the mode %s from here on, no more in %s: %s",
            following.mode,
            failed.mode,
            why,
        )
        return self._go_on(chosen, failed, following)

    def _rise(self, chosen: modes.Modes, present: modes.Capture) -> bool:
        """Go on with a better mode. Always true: there is something to check."""
        self._leave(present)
        following = chosen.instead(present)
        logger.info("OOM kills are captured in the mode %s again", following.mode)
        return self._go_on(chosen, present, following)

    def _leave(self, running: modes.Capture) -> None:
        self._unwatch(running)
        self._put(running.leave())
        self._summary.append(running.summary())

    def _go_on(self, chosen: modes.Modes, old: modes.Capture, new: modes.Capture) -> bool:
        if self._run:
            self._run.lost += old.lost()
        old.close()
        self._capture = new
        self._watch(new)
        self._report(chosen, new)
        return True

    def _report(self, chosen: modes.Modes, running: modes.Capture) -> None:
        """The mode for whoever asks for the health; poorer records are an error that may pass."""
        why = chosen.why()
        if why:
            detail = f"{running.describe()} ({why})"
            self._settings.report(component.Status(component.State.RECOVERABLE_ERROR, detail))
        else:
            self._settings.report(component.Status(component.State.OK, running.describe()))

    def _save(self, running: modes.Capture) -> None:
        """Keep the books of a moment, once as many records have left the agent as it had made.

        Until then an agent that is killed loses records, and the next start tells of them. What
        is on a disk is not lost.
        """
        balance = self._settings.ledger.balance(Signal.LOGS)
        made = balance.produced + balance.copied
        if self._unsaved is None:
            self._unsaved = made, running.books()
        due, saved = self._unsaved
        if made - (balance.held - balance.kept) - balance.difference >= due:
            if self._run:
                self._run.store.save(saved)
            self._unsaved = None

    async def _collect(self, this: run.Run) -> None:
        while True:
            await asyncio.sleep(self._config.collection_interval)
            self._outbox.put(this.metric())


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
