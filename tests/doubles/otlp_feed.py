"""A receiver that no user has: OTLP over HTTP into the real agent, as the collector's `otlp` takes it.

    with agent_process.running(config, folder, environment=otlp_feed.installed(folder)): ...

The agent's own receivers read kernels; a benchmark of delivery needs ten thousand records a second
and the same sender for the agent and for its peer. A request is answered once its batch is accepted:
200, or 503 if it was refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
from collections.abc import Mapping

from otel_oom import errors
from otel_oom.config.types import Violations
from otel_oom.pipeline import component
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import MESSAGES, Batch, Signal, count_items

_PATHS = {f"POST /v1/{signal} HTTP/1.1\r\n".encode(): signal for signal in Signal}
_TAKEN = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `otlp_feed` receiver."""

    port: int = 0
    """Port on loopback."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if not self.port:
            yield ("port",), "`port` must be given"


class Feed:
    """A server of HTTP/1.1 that knows no more than its one client needs."""

    def __init__(
        self, settings: component.Settings, config: Config, consumers: Mapping[Signal, Consumer]
    ) -> None:
        self._settings, self._port, self._consumers = settings, config.port, consumers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def shutdown(self) -> None:
        """Take no more connections."""
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while signal := _PATHS.get(await reader.readline()):
            body = await reader.readexactly(await _length(reader))
            writer.write(await self._take(signal, body))
        writer.close()

    async def _take(self, signal: Signal, body: bytes) -> bytes:
        """Read the message as the collector does, and hand it on in the form in which it came."""
        items = count_items(MESSAGES[signal].FromString(body))
        ledger, name = self._settings.ledger, self._settings.name
        ledger.produced(name, signal, items)
        try:
            await self._consumers[signal].consume(Batch(signal, body, items))
        except errors.Refused as refused:
            ledger.dropped(name, signal, items, refused.reason)
            return _REFUSED
        return _TAKEN


async def _length(reader: asyncio.StreamReader) -> int:
    length = 0
    while (line := await reader.readline()).strip():
        key, _, value = line.partition(b":")
        if key.lower() == b"content-length":
            length = int(value)
    return length


FACTORY = component.Factory(
    type_name="otlp_feed",
    kind=component.Kind.RECEIVER,
    config=Config,
    create=Feed,
    signals=dict.fromkeys(Signal, component.Stability.DEVELOPMENT),
)


def installed(folder: pathlib.Path) -> dict[str, str]:
    """Variables with which an agent finds the receiver: a distribution in `folder`, as pip makes it."""
    info = folder / "otlp_feed-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: otlp-feed\nVersion: 1\n")
    target = f"{pathlib.Path(__file__).parent.name}.{pathlib.Path(__file__).stem}:FACTORY"
    (info / "entry_points.txt").write_text(f"[otel_oom.receivers]\notlp_feed = {target}\n")
    paths = [str(folder), str(pathlib.Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
