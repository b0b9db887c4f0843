"""Answers whether the agent works: for a kubelet's probes, a load balancer, a person.

The default endpoint and the answers are those of the collector's `health_check`: 200 once all
components run, 503 before, and after one has failed for good. `/telemetry` gives the agent's
own metrics as JSON. `/views` gives what `otel-oom top` shows, with names of processes and files,
so only to who asks from the loopback address. The server understands just enough HTTP/1.1
(RFC 9112) for that, and gives every request little room and little time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import ipaddress
import json
import platform
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from otel_oom import errors
from otel_oom.config.types import Violations
from otel_oom.pipeline import component, measures

_MAX_HEAD_BYTES = 8192
_MAX_CONNECTIONS = 64
_REQUEST_TIMEOUT_S = 5.0
TELEMETRY_PATH, VIEWS_PATH = "/telemetry", "/views"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResponseBody:
    """Fixed texts in place of the JSON."""

    healthy: str = ""
    """Body of the answer 200. Default: the collector's JSON."""

    unhealthy: str = ""
    """Body of the answer 503. Default: the collector's JSON."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `health_check` extension."""

    endpoint: str = "127.0.0.1:13133"
    """`host:port` to listen on. Default `127.0.0.1:13133`; a kubelet's probe needs
    `0.0.0.0:13133`."""

    path: str = "/"
    """Path of the health answer, and of all below it if it ends with a slash. Default `/`."""

    views: bool = True
    """Whether `/views` answers, which `otel-oom top` needs: to any user of this host it tells
    names of processes and files. Default true."""

    response_body: ResponseBody = dataclasses.field(default_factory=ResponseBody)
    """Fixed texts to answer with. Default: none."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        try:
            split_endpoint(self.endpoint)
        except ValueError as error:
            yield ("endpoint",), str(error)
        if not self.path.startswith("/"):
            yield ("path",), f"`path` ({self.path}) must begin with a slash"


def split_endpoint(endpoint: str) -> tuple[str | None, int]:
    """`host:port`, `[::1]:port` or `:port` (all addresses) as (host or None, port)."""
    host, colon, port = endpoint.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise ValueError(f"`endpoint` ({endpoint}) must be `host:port`, e.g. `127.0.0.1:13133`")
    return host or None, int(port)


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"


class HealthCheck:
    """A small HTTP server on the agent's loop."""

    def __init__(self, settings: component.Settings, config: Config) -> None:
        self._settings = settings
        self._config = config
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on; of use where the config says 0."""
        assert self._server, "there is a port only while it runs"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen, or say which key to change."""
        host, port = split_endpoint(self._config.endpoint)
        try:
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=_MAX_HEAD_BYTES
            )
        except OSError as error:
            raise errors.ComponentError(
                f"cannot listen on {self._config.endpoint}: {error.strerror or error}; "
                "choose another address with the key `endpoint`"
            ) from error

    async def shutdown(self) -> None:
        """Stop listening and break off what is being answered."""
        if self._server:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task, "a server's callback runs as a task"
        self._connections.add(task)
        try:
            if len(self._connections) <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    await self._serve(reader, writer)
        except (TimeoutError, OSError, asyncio.CancelledError):
            pass  # too slow, gone, or we stop: nobody is left to be told
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            response, with_body = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        except asyncio.IncompleteReadError:
            return
        else:
            method, target = _request_line(head)
            is_local = _is_loopback(writer.get_extra_info("peername"))
            response = self._answer(method, target, is_local=is_local)
            with_body = method != "HEAD"
        writer.write(_encode(response, with_body=with_body))
        await writer.drain()

    def _answer(self, method: str, target: str, *, is_local: bool) -> Response:
        path = target.partition("?")[0]
        if not method:
            return _plain(HTTPStatus.BAD_REQUEST)
        if method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        if path == TELEMETRY_PATH:
            return _json(HTTPStatus.OK, self._telemetry())
        if path == VIEWS_PATH and self._config.views:
            return _json(HTTPStatus.OK, self._views()) if is_local else _plain(HTTPStatus.FORBIDDEN)
        own = self._config.path
        if path == own or (own.endswith("/") and path.startswith(own)):
            return self._health()
        return _plain(HTTPStatus.NOT_FOUND)

    def _health(self) -> Response:
        board, fixed = self._settings.board, self._config.response_body
        ready = board.ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        if text := fixed.healthy if ready else fixed.unhealthy:
            return Response(status, text.encode(), "text/plain; charset=utf-8")
        started_s = board.started_at_s()
        return _json(status, _available(started_s) if ready else _UNAVAILABLE)

    def _telemetry(self) -> Mapping[str, Any]:
        statuses = self._settings.board.statuses()
        return {
            "version": self._settings.version,
            "components": {
                name: {"status": status.state.value, "detail": status.detail}
                for name, status in statuses.items()
            },
            "metrics": [
                {"name": one.name, "unit": one.unit, "kind": one.kind, "value": one.value}
                | {"attributes": dict(one.attributes)}
                for one in measures.measurements(self._settings.ledger)
            ],
        }

    def _views(self) -> Mapping[str, Any]:
        board = self._settings.board
        return {
            "version": self._settings.version,
            "host": platform.node(),
            "ready": board.ready(),
            "uptime_s": max(0.0, time.time() - board.started_at_s()),
            "views": self._settings.views.made(),
        }


_UNAVAILABLE = {
    "status": "Server not available",
    "upSince": "0001-01-01T00:00:00Z",
    "uptime": "",
}


def _available(started_s: float) -> Mapping[str, str]:
    started = dt.datetime.fromtimestamp(started_s, dt.UTC)
    uptime_s = max(0.0, (dt.datetime.now(dt.UTC) - started).total_seconds())
    return {
        "status": "Server available",
        "upSince": started.isoformat().replace("+00:00", "Z"),
        "uptime": f"{uptime_s:.9g}s",
    }


def _is_loopback(peer: tuple[str, int] | None) -> bool:
    """Whether the address of a peer is this host's own; `::ffff:127.0.0.1` is, too."""
    if not peer:
        return False
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _request_line(head: bytes) -> tuple[str, str]:
    """Return the method and target of an HTTP/1 request, or two empty strings."""
    with contextlib.suppress(ValueError):
        method, target, version = head.partition(b"\r\n")[0].decode("ascii").split(" ")
        if version.startswith("HTTP/1.") and target.startswith("/"):
            return method, target
    return "", ""


def _json(status: HTTPStatus, content: Mapping[str, Any]) -> Response:
    return Response(status, json.dumps(content).encode())


def _plain(status: HTTPStatus) -> Response:
    return Response(status, f"{status.phrase}\n".encode(), "text/plain; charset=utf-8")


def _encode(response: Response, *, with_body: bool) -> bytes:
    status = response.status
    allow = "Allow: GET, HEAD\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"{allow}Connection: close\r\n\r\n"
    )
    return head.encode() + (response.body if with_body else b"")


FACTORY = component.Factory(
    type_name="health_check",
    kind=component.Kind.EXTENSION,
    config=Config,
    create=HealthCheck,
)
