"""Options of the exporter `otlp_http`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from otel_oom.config.types import Duration, Secret
from otel_oom.http import message as http_message
from otel_oom.pipeline import headers
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig
from otel_oom.pipeline.tls import TlsConfig

DEFAULT_ENDPOINT = "http://localhost:4318"
DEFAULT_TIMEOUT_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompressionParams:
    """`compression_params`."""

    level: int = 1
    """gzip level from 1 (fastest, default) to 9 (smallest)."""

    def __post_init__(self) -> None:
        """Refuse a level that gzip does not have."""
        if not 1 <= self.level <= 9:  # noqa: PLR2004  # zlib's levels
            raise ValueError("'level' must be within 1 and 9")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`otlp_http`, with the collector's names and defaults."""

    endpoint: str = ""
    """Base URL; `/v1/logs` and so on are appended. Default http://localhost:4318.

    Filled by OTEL_EXPORTER_OTLP_ENDPOINT."""

    logs_endpoint: str = ""
    """URL for logs, used as it is in place of `endpoint`. OTEL_EXPORTER_OTLP_LOGS_ENDPOINT."""

    traces_endpoint: str = ""
    """URL for traces, used as it is in place of `endpoint`. OTEL_EXPORTER_OTLP_TRACES_ENDPOINT."""

    metrics_endpoint: str = ""
    """URL for metrics, used as it is in place of `endpoint`.

    Filled by OTEL_EXPORTER_OTLP_METRICS_ENDPOINT."""

    encoding: Literal["proto", "json"] = "proto"
    """Body of a request: binary protobuf (default) or OTLP/JSON, about four times as large."""

    compression: Literal["gzip", "none"] | None = None
    """Compression of a request, default gzip. OTEL_EXPORTER_OTLP_COMPRESSION."""

    compression_params: CompressionParams = dataclasses.field(default_factory=CompressionParams)
    """How hard to compress."""

    headers: dict[str, Secret] = dataclasses.field(default_factory=dict)
    """Headers of every request, e.g. an API key. OTEL_EXPORTER_OTLP_HEADERS."""

    timeout: Duration | None = None
    """Time for one try, default 30s; 0 for no limit. What is heavy or slow is given more, see
    `retry_on_failure.adaptive`. OTEL_EXPORTER_OTLP_TIMEOUT (milliseconds)."""

    tls: TlsConfig = dataclasses.field(default_factory=TlsConfig)
    """For https:// endpoints; the scheme alone decides whether TLS is used."""

    proxy_url: str | None = None
    """Not supported: leave it out, and name in `endpoint` what the agent can reach itself."""

    sending_queue: QueueConfig = dataclasses.field(default_factory=QueueConfig)
    """What waits to be sent."""

    retry_on_failure: RetryConfig = dataclasses.field(default_factory=RetryConfig)
    """What is tried again, and for how long."""

    def __post_init__(self) -> None:
        """Refuse URLs and headers that cannot be used, and what is not supported."""
        for url in (self.endpoint, self.logs_endpoint, self.traces_endpoint, self.metrics_endpoint):
            if url:
                http_message.Url.parse(url)
        headers.check_http(self.headers)
        if self.timeout is not None and self.timeout < 0:
            raise ValueError("'timeout' must not be negative")
        if self.proxy_url:
            raise ValueError(
                "'proxy_url' is not supported: name in 'endpoint' what the agent can reach itself"
            )

    @property
    def timeout_s(self) -> float:
        """Time for one try in seconds, 0 for no limit."""
        return DEFAULT_TIMEOUT_S if self.timeout is None else self.timeout

    def url(self, signal: Signal) -> http_message.Url:
        """Where a signal goes (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP")."""
        own: str = getattr(self, f"{signal}_endpoint")
        base = (self.endpoint or DEFAULT_ENDPOINT).rstrip("/")
        return http_message.Url.parse(own or f"{base}/v1/{signal}")
