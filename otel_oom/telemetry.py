"""The agent about itself: process readings, the lag of the event loop, and their export.

Metrics leave through `opentelemetry-sdk` and the official OTLP exporter, which are imported
only when an endpoint is given. Everything is read on the event loop; only the blocking call of
the exporter runs on the loop's worker thread.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter

_LOG = logging.getLogger(__name__)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_START_NS = time.monotonic_ns()
_LAST_EXPORT_S = 2.0
ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """One reading: a counter's sum so far, or a gauge's value now."""

    name: str
    value: float
    attributes: tuple[tuple[str, str], ...] = ()
    unit: str = "1"
    kind: Literal["counter", "gauge"] = "gauge"


Read = Callable[[], Iterable[Measurement]]


def resident_bytes() -> int:
    """Resident memory of this process (proc(5), /proc/self/statm, second field)."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  # on a timer
        return int(statm.read().split()[1]) * _PAGE_BYTES


def process_measurements() -> Iterator[Measurement]:
    """Read CPU time, resident memory and uptime, named as the collector names its own."""
    uptime_s = (time.monotonic_ns() - _START_NS) / 1e9
    yield Measurement("otel_oom_process_uptime", uptime_s, unit="s", kind="counter")
    cpu_s = time.process_time()
    yield Measurement("otel_oom_process_cpu_seconds", cpu_s, unit="s", kind="counter")
    yield Measurement("otel_oom_process_memory_rss", resident_bytes(), unit="By")


class LoopLag:
    """How late the event loop ran a timer, in seconds: the worst of about the last minute."""

    _INTERVAL_S = 5.0
    _KEPT = 12

    def __init__(self) -> None:
        self._late_s: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure, on the running loop."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._INTERVAL_S
        self._timer = loop.call_at(due_s, self._tick, loop, due_s)

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer:
            self._timer.cancel()

    def read(self) -> float:
        """Return the worst lag, in seconds."""
        return max(self._late_s, default=0.0)

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self._late_s = [*self._late_s[-self._KEPT + 1 :], max(0.0, loop.time() - due_s)]
        self.start()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the metrics go. Without an endpoint the SDK reads its `OTEL_EXPORTER_OTLP_*`."""

    endpoint: str | None
    protocol: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    insecure: bool = False


class Exporter:
    """Sends the measurements as OTLP metrics every `interval_s`, and once more at the stop."""

    def __init__(
        self,
        read: Read,
        destination: Destination,
        *,
        interval_s: float,
        resource: Mapping[str, str | int | float | bool],
    ) -> None:
        self._read = read
        self._interval_s = interval_s
        self._exporter = _otlp_exporter(destination)
        self._reader, self._meter = _meter(resource)
        self._known: set[str] = set()
        self._now: dict[str, list[Measurement]] = {}
        self._task: asyncio.Task[None] | None = None
        self._exporting: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Begin to export, on the running loop."""
        self._task = asyncio.create_task(self._export_always(), name="telemetry")

    async def shutdown(self) -> None:
        """Export a last time, within `_LAST_EXPORT_S`, and close the connection."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        try:
            async with asyncio.timeout(_LAST_EXPORT_S):
                if self._exporting:
                    await asyncio.wait([self._exporting])
                await self._export()
        except TimeoutError:
            _LOG.warning("the last export of the agent's own metrics took too long: left out")
        finally:
            self._exporter.shutdown()  # which also ends the waits of an export on its thread

    async def _export_always(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._export()

    async def _export(self) -> None:
        """Export the readings of now, unless the one before still waits for its server."""
        if self._exporting and not self._exporting.done():
            return
        self._collect()
        if data := self._reader.get_metrics_data():
            loop = asyncio.get_running_loop()
            self._exporting = loop.run_in_executor(None, self._export_now, data)
            await asyncio.shield(self._exporting)

    def _export_now(self, data: Any) -> None:
        """Export, on a worker thread; what fails unexpectedly must not end the exports."""
        try:
            self._exporter.export(data)
        except Exception:  # noqa: BLE001  # a third party's code on a thread of its own
            _LOG.exception("the export of the agent's own metrics failed")

    def _collect(self) -> None:
        """Take the readings now, and make an instrument for each name seen first."""
        self._now = {}
        for measurement in self._read():
            self._now.setdefault(measurement.name, []).append(measurement)
        for name in self._now.keys() - self._known:
            self._known.add(name)
            self._instrument(self._now[name][0])

    def _instrument(self, like: Measurement) -> None:
        create: Any = (
            self._meter.create_observable_counter
            if like.kind == "counter"
            else self._meter.create_observable_gauge
        )
        create(like.name, [lambda _: self._observations(like.name)], unit=like.unit)

    def _observations(self, name: str) -> list[Any]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415  # see the module's text

        return [
            Observation(measurement.value, dict(measurement.attributes))
            for measurement in self._now.get(name, [])
        ]


def _meter(
    resource: Mapping[str, str | int | float | bool],
) -> tuple[InMemoryMetricReader, Meter]:
    """Make a meter whose readings are collected when we ask, on our own loop."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource.create(resource), shutdown_on_exit=False)
    return reader, provider.get_meter("otel_oom")


def _otlp_exporter(to: Destination) -> MetricExporter:
    """Make the official exporter of a protocol: `grpc`, else OTLP over HTTP."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # a line per failure
    headers = dict(to.headers) or None
    if to.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter as GrpcExporter,
        )

        return GrpcExporter(endpoint=to.endpoint, insecure=to.insecure or None, headers=headers)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter as HttpExporter,
    )

    endpoint = to.endpoint and _with_metrics_path(to.endpoint)
    return HttpExporter(endpoint=endpoint, headers=headers)


def _with_metrics_path(endpoint: str) -> str:
    """Add the path that OTLP over HTTP prescribes (specification.md) to a bare URL."""
    url = urllib.parse.urlsplit(endpoint)
    return endpoint if url.path.strip("/") else url._replace(path="/v1/metrics").geturl()
