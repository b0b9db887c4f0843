"""Options of `otlp_grpc`, and where they lead."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from otel_oom.config.types import Duration, Secret
from otel_oom.pipeline import headers, tls
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig
from otel_oom.pipeline.tls import TlsConfig

DEFAULT_ENDPOINT = "http://localhost:4317"
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_IDLE_TIMEOUT_S = 5.0

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
    """Time for one try, default 5s; 0 for no limit. What is heavy or slow is given more, see
    `retry_on_failure.adaptive`. OTEL_EXPORTER_OTLP_TIMEOUT (milliseconds)."""

    keepalive: KeepaliveConfig | None = None
    """HTTP/2 pings; off by default, as in the collector."""

    idle_timeout: Duration | None = None
    """Time without a request after which the connection is closed, default 5s; 0 keeps it, and
    so does `permit_without_stream`. The next request opens it again, in a few milliseconds and
    the network's round trips."""

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
        for key in ("timeout", "idle_timeout"):
            if (getattr(self, key) or 0) < 0:
                raise ValueError(f"'{key}' must not be negative")
        for problem in tls.grpc_problems(self.tls):
            raise ValueError(problem)

    @property
    def target(self) -> Target:
        """Where to."""
        return Target.parse(self.endpoint or DEFAULT_ENDPOINT, self.tls.insecure)

    @property
    def timeout_s(self) -> float:
        """Time for one try in seconds, 0 for no limit."""
        return DEFAULT_TIMEOUT_S if self.timeout is None else self.timeout

    @property
    def idle_timeout_s(self) -> float:
        """Time without a request until the channel is closed in seconds, 0 for never."""
        if self.idle_timeout is not None:
            return self.idle_timeout
        keeps = self.keepalive is not None and self.keepalive.permit_without_stream
        return 0.0 if keeps else DEFAULT_IDLE_TIMEOUT_S
