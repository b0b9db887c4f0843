"""The gRPC channel, which is there while it is used and for a while after.

As long as a process has a channel, gRPC keeps threads of its own, two to sixteen of them by the
number of cores, which look for work several times a second each: more than all the rest of an
idle agent. They end with the last channel. grpc is imported with the first one, because it costs
10 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from otel_oom import errors
from otel_oom.exporters.otlp_grpc.config import Config
from otel_oom.pipeline import tls
from otel_oom.pipeline.sending import limits

if TYPE_CHECKING:
    import grpc
    import grpc.aio

MAX_METADATA_BYTES = 64 * 1024
"""Trailers up to this size are read, so that a long error text does not hide its code."""

MAX_RECONNECT_MS = 5_000
"""Longest pause between attempts to connect; gRPC's own 120 s would outlast our retries."""

MAX_CONNECT_MS = 20_000
"""gRPC's own limit of an attempt to connect; less where no try takes as long."""


class Channel:
    """At most one channel that calls begin on, and those that older calls end on."""

    def __init__(self, config: Config, version: str) -> None:
        self._config = config
        self._target = config.target
        self._longest_s = config.retry_on_failure.longest_s(config.timeout_s)
        self._options = [*_options(config, version), *_keepalive_options(config)]
        self._stamp = tls.stamp(config.tls)
        self._credentials: grpc.ChannelCredentials | None = None
        self._open: grpc.aio.Channel | None = None
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def open(self) -> grpc.aio.Channel:
        """Make the channel; it connects when it is used. `errors.ComponentError`: bad TLS files."""
        self._renew_credentials()
        self._open = self._new()
        self._close_when_idle()
        return self._open

    @contextlib.contextmanager
    def used(self) -> Iterator[grpc.aio.Channel]:
        """The channel, kept open for the block; it is opened if need be, and raises as `open`.

        After an answer it may be idle. After none it stays open, for connecting may take longer
        than one try.
        """
        self._stop_timer()
        self._users += 1
        answered = True
        try:
            yield self._open or self.open()
        except (errors.Retryable, asyncio.CancelledError):
            answered = False
            raise
        finally:
            self._users -= 1
            if answered:
                self._close_when_idle()

    def follow_files(self) -> None:
        """Let the next call have a new channel if a TLS file was replaced.

        Credentials cannot change in a channel. It has time to finish what others send on it.
        """
        if tls.stamp(self._config.tls) != self._stamp:
            self._retire(self._longest_s)

    def said_nothing(self, channel: grpc.aio.Channel) -> None:
        """Let the next call have a new connection, if this one was there and brought no answer.

        It may be dead and nobody has told us: then no call on it would ever be answered.
        """
        import grpc  # noqa: PLC0415  # see the module's docstring

        if channel is self._open and channel.get_state() is grpc.ChannelConnectivity.READY:
            self._retire(self._longest_s)

    def drop(self) -> None:
        """Close the connection at once, and have another for the next call.

        Calls that others have on it end unanswered, and are tried again.
        """
        self._retire()

    async def close(self) -> None:
        """Close everything; what is still in flight ends as cancelled."""
        self._stop_timer()
        self._retire()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _close_when_idle(self) -> None:
        idle_s = self._config.idle_timeout_s
        if idle_s and not self._users:
            self._timer = asyncio.get_running_loop().call_later(idle_s, self._retire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _retire(self, grace_s: float | None = None) -> None:
        """Close the channel behind the next one's back; nothing may refer to it any more.

        It is the last reference that ends gRPC's threads, not the closing.
        """
        old, self._open = self._open, None
        if old is None:
            return
        task = asyncio.get_running_loop().create_task(old.close(grace_s))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _new(self) -> grpc.aio.Channel:
        import grpc  # noqa: PLC0415  # see the module's docstring
        import grpc.aio  # noqa: PLC0415

        plain = self._config.compression == "none"
        arguments: dict[str, Any] = {
            "options": self._options,
            "compression": grpc.Compression.NoCompression if plain else grpc.Compression.Gzip,
        }
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target.name, **arguments)
        return grpc.aio.secure_channel(self._target.name, self._credentials, **arguments)

    def _renew_credentials(self) -> None:
        """Read the TLS files if they are not as they were: a hundred roots take 40 ms to check."""
        stamp = tls.stamp(self._config.tls)
        if self._target.tls and (self._credentials is None or stamp != self._stamp):
            self._credentials = _credentials(self._config.tls)
        self._stamp = stamp


def _credentials(config: tls.TlsConfig) -> grpc.ChannelCredentials:
    import grpc  # noqa: PLC0415

    found = tls.material(config)
    tls.client_context(config, found)  # gRPC would fail each handshake and not say why
    roots = found.roots
    if roots is None or config.include_system_ca_certs_pool:
        roots = b"\n".join(filter(None, (tls.system_roots(), roots))) or None
    return grpc.ssl_channel_credentials(roots, found.key, found.certificate)


def _options(config: Config, version: str) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", f"otel-oom/{version}"),
        ("grpc.max_receive_message_length", limits.MAX_RESPONSE_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", _connect_ms(config)),
        # A new channel must not be given the connection of the one that it replaces.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.lb_policy_name", config.balancer_name),
    ]
    if name := config.tls.server_name_override:
        options += [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    return options


def _connect_ms(config: Config) -> int:
    """Longest time for one attempt to connect, which is this option's other meaning."""
    longest_s = config.retry_on_failure.longest_s(config.timeout_s)
    return min(MAX_CONNECT_MS, int(longest_s * 1000) or MAX_CONNECT_MS)


def _keepalive_options(config: Config) -> list[tuple[str, Any]]:
    keepalive = config.keepalive
    if keepalive is None:
        return []
    return [
        ("grpc.keepalive_time_ms", int(keepalive.time * 1000)),
        ("grpc.keepalive_timeout_ms", int(keepalive.timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", int(keepalive.permit_without_stream)),
        ("grpc.http2.max_pings_without_data", 0),
    ]
