"""OTLP over gRPC: the encoded request as it is, on one channel, by generic unary calls.

grpc is imported at `start` and not with this module, because it costs 10 MiB that an agent
without this exporter should not pay.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any, Literal

from otel_oom import errors
from otel_oom.config.types import Duration, Secret
from otel_oom.pipeline import component, headers, tls
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import environment as otlp_env
from otel_oom.pipeline.otlp import status as otlp_status
from otel_oom.pipeline.sending import chain as sending
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import RetryConfig
from otel_oom.pipeline.tls import TlsConfig

if TYPE_CHECKING:
    import grpc
    import grpc.aio

DEFAULT_ENDPOINT = "http://localhost:4317"
DEFAULT_TIMEOUT_S = 5.0

METHODS = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}

MAX_METADATA_BYTES = 64 * 1024
"""Trailers up to this size are read, so that a long error text does not hide its code."""

MAX_RECONNECT_MS = 5_000
"""Longest pause between attempts to connect; gRPC's own 120 s would outlast our retries."""

_PASSED_ON = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:")
"""Targets in gRPC's own naming (grpc/doc/naming.md)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveConfig:
    """`keepalive`: HTTP/2 pings that find out when a silent connection is dead."""

    time: Duration = Duration(10.0)
    """Silence after which a ping is sent, default 10s; many servers refuse less than 5 minutes."""

    timeout: Duration = Duration(10.0)
    """Wait for the answer to a ping, default 10s; then the connection is closed."""

    permit_without_stream: bool = False
    """Whether to ping also while nothing is being sent, default false."""

    def __post_init__(self) -> None:
        """Refuse times that gRPC does not take."""
        if self.time <= 0 or self.timeout <= 0:
            raise ValueError("'time' and 'timeout' must be greater than 0")


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where to, in gRPC's naming, and whether with TLS."""

    name: str
    tls: bool

    @classmethod
    def parse(cls, endpoint: str, insecure: bool | None) -> Target:
        """Read an endpoint; its scheme decides about TLS, then `insecure`, then it is on.

        A Unix socket is without TLS unless `insecure` is false. `ValueError` says what is wrong.
        """
        if endpoint.startswith(_PASSED_ON):
            local = endpoint.startswith("unix")
            return cls(endpoint, not (local if insecure is None else insecure))
        scheme, separator, rest = endpoint.partition("://")
        name = rest.removesuffix("/") if separator else endpoint
        if separator and scheme not in {"http", "https"}:
            raise ValueError(f"the scheme of {endpoint!r} must be http, https, dns or unix")
        if not re.fullmatch(r"([^\s/:@]+|\[[0-9a-fA-F:.%]+\]):[0-9]{1,5}", name):
            raise ValueError(f"{endpoint!r} must read host:port, e.g. localhost:4317, without path")
        return cls(name, scheme == "https" if separator else not insecure)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`otlp_grpc`, with the collector's names and defaults."""

    endpoint: str = ""
    """`host:port` (with TLS), or the same with `http://` (without) or `https://`, or `dns:///…`,
    or `unix:/path`. Default http://localhost:4317. OTEL_EXPORTER_OTLP_ENDPOINT."""

    tls: TlsConfig = dataclasses.field(default_factory=TlsConfig)
    """TLS is on unless the endpoint's `http://` or `insecure` turns it off."""

    headers: dict[str, Secret] = dataclasses.field(default_factory=dict)
    """Metadata of every call, e.g. an API key. OTEL_EXPORTER_OTLP_HEADERS."""

    compression: Literal["gzip", "none"] | None = None
    """Compression of a request, default gzip. OTEL_EXPORTER_OTLP_COMPRESSION."""

    timeout: Duration | None = None
    """Time for one try, default 5s; 0 for no limit. OTEL_EXPORTER_OTLP_TIMEOUT (milliseconds)."""

    keepalive: KeepaliveConfig | None = None
    """HTTP/2 pings; off by default, as in the collector."""

    wait_for_ready: bool = False
    """Whether a try waits within its timeout for the connection, default false: it fails then."""

    balancer_name: Literal["round_robin", "pick_first"] = "round_robin"
    """How calls are spread over the addresses of a name, default round_robin."""

    sending_queue: QueueConfig = dataclasses.field(default_factory=QueueConfig)
    """What waits to be sent."""

    retry_on_failure: RetryConfig = dataclasses.field(default_factory=RetryConfig)
    """What is tried again, and for how long."""

    def __post_init__(self) -> None:
        """Refuse an endpoint or headers that cannot be used, and what gRPC cannot do."""
        if self.endpoint:
            Target.parse(self.endpoint, self.tls.insecure)
        headers.check_grpc(self.headers)
        if self.timeout is not None and self.timeout < 0:
            raise ValueError("'timeout' must not be negative")
        for problem in tls.grpc_problems(self.tls):
            raise ValueError(problem)


class Push:
    """One call, and the judgement of its status."""

    def __init__(self, config: Config, version: str) -> None:
        self._config = config
        self._version = version
        self._target = Target.parse(config.endpoint or DEFAULT_ENDPOINT, config.tls.insecure)
        self._metadata = tuple(_metadata(config))
        self._stamp = tls.stamp(config.tls)
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[Signal, Any] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the channel; it connects when it is used. `errors.ComponentError`: bad TLS files."""
        self._open()

    def _open(self) -> None:
        import grpc  # noqa: PLC0415  # see the module's docstring
        import grpc.aio  # noqa: PLC0415

        self._grpc = grpc
        self._stamp = tls.stamp(self._config.tls)
        self._channel = self._new_channel()
        self._calls = {
            signal: self._channel.unary_unary(method, None, None)
            for signal, method in METHODS.items()
        }

    async def send(self, request: Request) -> Answer:
        """Send one request."""
        call = self._calls[request.signal](
            request.body, metadata=self._metadata, wait_for_ready=self._config.wait_for_ready
        )
        try:
            return otlp_status.parse_response(request.signal, await call)
        except self._grpc.aio.AioRpcError as failure:
            raise self._judge(failure) from failure
        except asyncio.CancelledError:
            if _cancelled_by_us():
                raise
            raise errors.Retryable("the channel was closed during the call") from None

    async def close(self) -> None:
        """End all calls and close the channel."""
        if self._channel is not None:
            await self._channel.close(None)
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _judge(self, failure: grpc.aio.AioRpcError) -> errors.ExportError:
        code = failure.code()
        if code is self._grpc.StatusCode.UNAVAILABLE:
            self._follow_files()
        trailers: dict[str, Any] = dict(failure.trailing_metadata() or ())
        details = trailers.get("grpc-status-details-bin")
        return otlp_status.grpc_failure(code.value[0], code.name, failure.details() or "", details)

    def _follow_files(self) -> None:
        """Make a new channel when a TLS file was replaced; credentials cannot change in one.

        The old channel has time to finish what others are sending on it.
        """
        old = self._channel
        if old is None or tls.stamp(self._config.tls) == self._stamp:
            return
        try:
            self._open()
        except errors.ComponentError as failure:
            raise errors.Retryable(str(failure)) from failure
        task = asyncio.create_task(old.close(self._config.timeout or DEFAULT_TIMEOUT_S))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _new_channel(self) -> grpc.aio.Channel:
        compression = self._grpc.Compression
        arguments: dict[str, Any] = {
            "options": self._options(),
            "compression": (
                compression.NoCompression
                if self._config.compression == "none"
                else compression.Gzip
            ),
        }
        if not self._target.tls:
            return self._grpc.aio.insecure_channel(self._target.name, **arguments)
        return self._grpc.aio.secure_channel(self._target.name, self._credentials(), **arguments)

    def _credentials(self) -> grpc.ChannelCredentials:
        config = self._config.tls
        found = tls.material(config)
        tls.client_context(config, found)  # gRPC would fail each handshake and not say why
        roots = found.roots
        if roots is None or config.include_system_ca_certs_pool:
            roots = b"\n".join(filter(None, (tls.system_roots(), roots))) or None
        return self._grpc.ssl_channel_credentials(roots, found.key, found.certificate)

    def _options(self) -> list[tuple[str, Any]]:
        options: list[tuple[str, Any]] = [
            ("grpc.primary_user_agent", f"otel-oom/{self._version}"),
            ("grpc.max_receive_message_length", limits.MAX_RESPONSE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
            ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_MS),
            ("grpc.enable_retries", 0),
            ("grpc.lb_policy_name", self._config.balancer_name),
        ]
        if name := self._config.tls.server_name_override:
            options += [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
        return options + self._keepalive_options()

    def _keepalive_options(self) -> list[tuple[str, Any]]:
        keepalive = self._config.keepalive
        if keepalive is None:
            return []
        return [
            ("grpc.keepalive_time_ms", int(keepalive.time * 1000)),
            ("grpc.keepalive_timeout_ms", int(keepalive.timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", int(keepalive.permit_without_stream)),
            ("grpc.http2.max_pings_without_data", 0),
        ]


def create(settings: component.Settings, config: Config) -> sending.Exporter:
    """The exporter: our chain of senders that ends in `Push`."""
    config = otlp_env.fill(config, os.environ)
    return sending.Exporter(
        settings,
        Push(config, settings.version),
        queue=config.sending_queue,
        retry=config.retry_on_failure,
        timeout_s=DEFAULT_TIMEOUT_S if config.timeout is None else config.timeout,
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
