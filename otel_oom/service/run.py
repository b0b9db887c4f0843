"""Runs the agent: one event loop, signals, reload, and the accounting at the end.

SIGINT and SIGTERM stop it cleanly, a second one at once; SIGHUP reads the config again and, if
that is good, rebuilds everything with it. Exit status: 0 stopped as asked, 1 failed, 2 the
config cannot be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import otel_oom
from otel_oom import errors, telemetry
from otel_oom.pipeline import accounting, measures
from otel_oom.service import board as boards
from otel_oom.service import builder, memory, summary
from otel_oom.service import graph as graphs
from otel_oom.service.settings import AgentConfig
from otel_oom.service.unchanged import Unchanged, between

_LOG = logging.getLogger(__name__)

Load = Callable[[], AgentConfig]


class Exit(enum.IntEnum):
    """Exit statuses of the process."""

    OK = 0
    FAILED = 1
    BAD_CONFIG = 2


def run(load: Load, *, quiet: bool = False) -> Exit:
    """Run until a signal or a failure. `load` reads the config, now and at each reload."""
    try:
        config = load()
    except errors.ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201  # there is no logging without a config
        return Exit.BAD_CONFIG
    return serve(config, load, quiet=quiet)


def serve(config: AgentConfig, load: Load, *, quiet: bool = False) -> Exit:
    """Run a configuration that was read; `load` reads it again at each reload."""
    set_up_logging(config, quiet=quiet)
    _warn(config)
    memory.share_one_arena()
    return asyncio.run(Agent(load, config, quiet=quiet).run())


def set_up_logging(config: AgentConfig, *, quiet: bool) -> None:
    """Send the logs to stderr, a line each, from the configured level (`--quiet`: WARNING)."""
    logging.raiseExceptions = False  # a closed stderr is no reason for a traceback
    level = logging.WARNING if quiet else config.service.telemetry.logs.level.upper()
    logging.basicConfig(
        level=level,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )


def _warn(config: AgentConfig) -> None:
    for warning in config.warnings:
        _LOG.warning("%s", warning)


class Agent:
    """One life of the agent: its ledger outlives reloads, its graph does not."""

    def __init__(self, load: Load, config: AgentConfig, *, quiet: bool = False) -> None:
        self._load = load
        self._config = config
        self._quiet = quiet
        self._ledger = accounting.Ledger()
        self._board = boards.StatusBoard()
        self._lag = telemetry.LoopLag()
        self._graph: graphs.Graph | None = None
        self._builder: builder.Builder | None = None
        self._exporter: telemetry.Exporter | None = None
        self._stop, self._reload = asyncio.Event(), asyncio.Event()

    async def run(self) -> Exit:
        """Start, serve until told to stop, stop, and print where every item went."""
        self._handle_signals()
        self._lag.start()
        failed = False
        try:
            if await self._unless_stopped(self._begin(self._config)):
                _LOG.info("running; stop with Ctrl-C or SIGTERM")
                await self._serve()
        except errors.ComponentError as error:
            _LOG.error("%s", error)
            failed = True
        finally:
            await self._end()
            self._lag.stop()
        closes = self._print_accounting()
        failed = failed or not closes or self._board.fatal.is_set()
        return Exit.FAILED if failed else Exit.OK

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            _LOG.info("%s: stopping", number.name)
            self._stop.set()
            return
        _LOG.warning("%s again: stopping at once", number.name)
        if self._graph:
            self._graph.hurry()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work, or break it off when told to stop; says whether it was finished."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            await task
            return True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False

    async def _serve(self) -> None:
        """Wait for what happens, and act on it, until the end."""
        while await self._unless_stopped(self._next_event()) and not self._board.fatal.is_set():
            self._reload.clear()
            await self._reread()

    async def _next_event(self) -> None:
        """Wait for a reload signal or a fatal failure."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._reload, self._board.fatal)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _reread(self) -> None:
        """Rebuild with the new config if it is good; otherwise keep, or restore, the old one."""
        try:
            config = await asyncio.to_thread(self._load)
        except errors.ConfigError as error:
            _LOG.error("reload: the running configuration is kept, because of\n%s", error)
            return
        unchanged = between(self._config, config)
        kept = await self._leave(unchanged)
        try:
            await self._begin(config, kept)
        except errors.ComponentError as error:
            _LOG.error("reload: back to the old configuration, because %s", error)
            await self._begin(self._config, await self._leave(unchanged))
            return
        self._config = config
        set_up_logging(config, quiet=self._quiet)
        _warn(config)
        _LOG.info("reload: running with the new configuration")

    async def _leave(self, unchanged: Unchanged) -> builder.Made | None:
        """Stop what is not kept, while the receivers that are kept hold back what they have."""
        if self._builder is None or self._graph is None:
            return None
        kept = self._builder.made.of(unchanged)
        kept.leftovers.expect(unchanged.returning)
        await kept.hold_back()
        await self._graph.stop(but=kept.nodes)
        await self._end_telemetry()
        return kept

    async def _begin(self, config: AgentConfig, kept: builder.Made | None = None) -> None:
        running = kept.nodes if kept else {}
        self._ledger.forget_readers(but=running)
        self._board.clear(but=running)
        self._ledger.gauge("event_loop_lag_s", "", self._lag.read)
        self._builder = builder.Builder(config, self._ledger, self._board, kept)
        self._graph = self._builder.graph()
        self._exporter = _telemetry(config, self._ledger)
        if self._exporter:
            self._exporter.start()
        await self._graph.start()
        self._builder.open()
        self._builder.made.leftovers.expect(())
        memory.give_back()

    async def _end(self) -> None:
        if self._builder:
            self._builder.made.leftovers.expect(())
        if self._graph:
            await self._graph.stop()
            self._give_up_leftovers()
        await self._end_telemetry()

    def _give_up_leftovers(self) -> None:
        """Count what the exporters of a reload that failed altogether have left."""
        for name, request in self._builder.made.leftovers.all() if self._builder else ():
            self._ledger.recovered(name, request.signal, request.items)
            self._ledger.dropped(name, request.signal, request.items, "shutdown")

    async def _end_telemetry(self) -> None:
        exporter, self._exporter = self._exporter, None
        if exporter:
            await exporter.shutdown()

    def _print_accounting(self) -> bool:
        """Print where every item went, and return whether the sums close; if not, it is a bug."""
        closes = summary.closes(self._ledger)
        if not self._quiet or not closes:
            with contextlib.suppress(OSError):  # nobody may be left to read it
                print(*self._summary(), sep="\n", file=sys.stderr, flush=True)  # noqa: T201
        return closes

    def _summary(self) -> list[str]:
        signals = dict.fromkeys(name.signal for name in self._config.service.pipelines)
        said = graphs.summaries(self._graph.nodes) if self._graph else []
        return [*summary.lines(self._ledger, signals), *said]


def _telemetry(config: AgentConfig, ledger: accounting.Ledger) -> telemetry.Exporter | None:
    """Make the exporter of our own metrics if the config or the environment names an endpoint."""
    metrics = config.service.telemetry.metrics
    if not metrics.endpoint and not os.environ.get(telemetry.ENDPOINT_VARIABLE):
        return None
    destination = telemetry.Destination(
        endpoint=metrics.endpoint,
        protocol=metrics.protocol.value if metrics.endpoint else _protocol_of_environment(),
        headers=metrics.headers,
        insecure=metrics.insecure,
    )
    resource = {
        "service.name": "otel-oom",
        "service.version": otel_oom.__version__,
        **config.service.telemetry.resource,
    }
    try:
        return telemetry.Exporter(
            lambda: measures.measurements(ledger),
            destination,
            interval_s=metrics.interval,
            resource=resource,
        )
    except Exception as error:  # whatever the SDK's exporter finds wrong with it
        raise errors.ComponentError(f"service.telemetry.metrics: {error}") from error


def _protocol_of_environment() -> str:
    """Read the protocol that goes with the endpoint of the environment; OTLP's default is HTTP."""
    for name in ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := os.environ.get(name):
            return protocol
    return "http/protobuf"
