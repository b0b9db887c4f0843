"""Prints what arrives: for people at a terminal, and to see what a pipeline carries.

Options and defaults are those of the collector's `debug` exporter. It never holds a pipeline
up: what a slow or closed stream does not take is dropped and counted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Iterator
from typing import Literal

from otel_oom import errors
from otel_oom.config.types import Violations
from otel_oom.exporters.debug import dump, output, render
from otel_oom.pipeline import component
from otel_oom.pipeline.data import ITEM_NAMES, Batch, Signal

_LINES_PER_TURN = 100


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `debug` exporter."""

    verbosity: Literal["basic", "normal", "detailed"] = "basic"
    """`basic`: a line per batch with its counts; `normal`: a line per item, an OOM kill with
    its numbers and its process tree; `detailed`: everything. Default `basic`."""

    output_paths: list[str] = dataclasses.field(default_factory=lambda: ["stdout"])
    """Where to: `stdout` (default) or `stderr`. For a file use the `file` exporter."""

    sampling_initial: int | None = None
    """Not supported, because every record is printed; leave it out."""

    sampling_thereafter: int | None = None
    """Not supported, because every record is printed; leave it out."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.output_paths not in (["stdout"], ["stderr"]):
            text = "`output_paths` must be [stdout] or [stderr]; for a file use the `file` exporter"
            yield ("output_paths",), text
        for key in ("sampling_initial", "sampling_thereafter"):
            if getattr(self, key) is not None:
                yield (key,), f"`{key}` is not supported: every record is printed; remove the key"


class DebugExporter:
    """Owns a batch from `consume` until its text is written."""

    def __init__(self, settings: component.Settings, config: Config) -> None:
        self._settings = settings
        self._config = config
        self._held = dict.fromkeys(Signal, 0)
        self._output: output.Output | None = None
        settings.ledger.hold(settings.name, self._held.__getitem__)

    async def start(self) -> None:
        """Take the stream as it is now."""
        stream = sys.stdout if self._config.output_paths == ["stdout"] else sys.stderr
        self._output = output.Output(stream.fileno())

    async def consume(self, batch: Batch) -> None:
        """Print the batch, now or when the stream has room."""
        lines = []
        for line in self._lines(batch):
            lines.append(f"{line}\n")
            if len(lines) % _LINES_PER_TURN == 0:
                await asyncio.sleep(0)  # a large batch must not keep the ring from being read
        if self._output is None:
            raise errors.Refused("the debug exporter has stopped", reason="shutdown")
        self._held[batch.signal] += batch.items
        self._output.write("".join(lines), lambda reason: self._done(batch, reason))

    async def shutdown(self) -> None:
        """Write what waits; if that is cancelled, it is dropped for `shutdown`."""
        if self._output:
            await self._output.close()
            self._output = None

    def _lines(self, batch: Batch) -> Iterator[str]:
        match self._config.verbosity:
            case "basic":
                return iter([_counts(batch)])
            case "normal":
                return render.lines(batch.data)
            case "detailed":
                return dump.lines(batch.data)

    def _done(self, batch: Batch, reason: str) -> None:
        settings = self._settings
        self._held[batch.signal] -= batch.items
        if not reason:
            settings.ledger.delivered(settings.name, batch.signal, batch.items)
            return
        settings.ledger.dropped(settings.name, batch.signal, batch.items, reason)
        if reason == output.CLOSED:
            self._report_closed()

    def _report_closed(self) -> None:
        text = f"{self._config.output_paths[0]} is closed: nothing can be printed any more"
        self._settings.report(component.Status(component.State.PERMANENT_ERROR, text))


def _counts(batch: Batch) -> str:
    """Count as the collector's `basic` line does: resources, then items."""
    ((_, resources),) = batch.data.ListFields() or ((None, ()),)
    items = ITEM_NAMES[batch.signal].replace("_", " ")
    return f"{batch.signal.title()}: {len(resources)} resources, {batch.items} {items}"


FACTORY = component.Factory(
    type_name="debug",
    kind=component.Kind.EXPORTER,
    config=Config,
    create=DebugExporter,
    signals=dict.fromkeys(Signal, component.Stability.BETA),
)
