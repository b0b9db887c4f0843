"""OTLP over gRPC: the encoded request as it is, by generic unary calls on one channel.

The channel is closed while nothing is sent, and opened again with the next request.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from otel_oom import errors
from otel_oom.exporters.otlp_grpc.channel import Channel
from otel_oom.exporters.otlp_grpc.config import Config
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import environment as otlp_env
from otel_oom.pipeline.otlp import status as otlp_status
from otel_oom.pipeline.sending import chain as sending
from otel_oom.pipeline.sending.request import Answer, Request

if TYPE_CHECKING:
    import grpc.aio

METHODS = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}

_TOO_MANY_HEADERS = "metadata size exceeds"
"""gRPC's own words. It goes on to collect such headers as long as they come, 15 MiB a second."""


class Push:
    """One call, and the judgement of its status."""

    def __init__(self, config: Config, version: str) -> None:
        self._wait_for_ready = config.wait_for_ready
        self._metadata = tuple(_metadata(config))
        self._channel = Channel(config, version)

    async def open(self) -> None:
        """Read the TLS files and make the channel; it connects when it is used."""
        self._channel.open()

    async def close(self) -> None:
        """End all calls and close the channel."""
        await self._channel.close()

    async def send(self, request: Request) -> Answer:
        """Send one request."""
        try:
            with self._channel.used() as channel:
                return otlp_status.parse_response(
                    request.signal, await self._call(channel, request)
                )
        except errors.ComponentError as failure:
            raise errors.Retryable(str(failure)) from failure

    async def _call(self, channel: grpc.aio.Channel, request: Request) -> bytes:
        import grpc.aio  # noqa: PLC0415

        method: Any = channel.unary_unary(METHODS[request.signal], None, None)
        try:
            answer: bytes = await method(
                request.body, metadata=self._metadata, wait_for_ready=self._wait_for_ready
            )
        except grpc.aio.AioRpcError as failure:
            raise self._judge(failure) from failure
        except asyncio.CancelledError:
            if _cancelled_by_us():
                self._channel.said_nothing(channel)
                raise
            raise errors.Retryable("the channel was closed during the call") from None
        return answer

    def _judge(self, failure: grpc.aio.AioRpcError) -> errors.ExportError:
        number, name = failure.code().value[0], failure.code().name
        if name == "UNAVAILABLE":
            self._channel.follow_files()
        elif _TOO_MANY_HEADERS in (failure.details() or ""):
            self._channel.drop()
        trailers: dict[str, Any] = dict(failure.trailing_metadata() or ())
        details = trailers.get("grpc-status-details-bin")
        return otlp_status.grpc_failure(number, name, failure.details() or "", details)


def create(settings: component.Settings, config: Config) -> sending.Exporter:
    """The exporter: our chain of senders that ends in `Push`."""
    config = otlp_env.fill(config, os.environ)
    return sending.Exporter(
        settings,
        Push(config, settings.version),
        queue=config.sending_queue,
        retry=config.retry_on_failure,
        timeout_s=config.timeout_s,
    )


def _metadata(config: Config) -> list[tuple[str, str | bytes]]:
    """Headers as gRPC wants them: lower case, and bytes for names that end in `-bin`."""
    lowered = ((name.lower(), str(value)) for name, value in config.headers.items())
    return [(name, value.encode() if name.endswith("-bin") else value) for name, value in lowered]


def _cancelled_by_us() -> bool:
    """Whether this task is asked to stop, in contrast to a call that ended as cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


FACTORY = component.Factory(
    type_name="otlp_grpc",
    aliases=("otlp",),
    kind=component.Kind.EXPORTER,
    config=Config,
    create=create,
    signals=dict.fromkeys(Signal, component.Stability.ALPHA),
)
