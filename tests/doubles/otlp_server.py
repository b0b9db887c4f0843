"""OTLP servers that misbehave on demand, over real gRPC and real HTTP/1.1.

Each has a `script`: what to do with the first request, the second and so on; when it is empty,
requests are taken. What arrives is parsed as an OTLP request and kept in `received`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from doubles import otlp_json_reader
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
PROTOBUF = "application/x-protobuf"


@dataclasses.dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    signal: str
    message: Any
    headers: Mapping[str, Any]
    path: str


def partial_success(rejected: int, message: str) -> bytes:
    """A response for logs that refuses some records."""
    partial = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
    return ExportLogsServiceResponse(partial_success=partial).SerializeToString()


def status_details(code: int, text: str, retry_s: float | None = None) -> bytes:
    """A google.rpc.Status, with a RetryInfo if a delay is given."""
    status = status_pb2.Status(code=code, message=text)
    if retry_s is not None:
        delay = duration_pb2.Duration(seconds=int(retry_s), nanos=int(retry_s % 1 * 1e9))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status.details.append(detail)
    return status.SerializeToString()


class _Server:
    def __init__(self) -> None:
        self.received: list[Received] = []
        self.script: list[Any] = []
        self.arrived = asyncio.Event()

    def note(self, received: Received) -> None:
        self.received.append(received)
        self.arrived.set()

    def next_step(self, default: Any) -> Any:
        return self.script.pop(0) if self.script else default

    async def wait_for(self, count: int) -> None:
        """Until so many requests have arrived."""
        while len(self.received) < count:
            self.arrived.clear()
            await self.arrived.wait()


GrpcStep = Callable[[grpc.aio.ServicerContext], Awaitable[bytes]]


def grpc_reply(body: bytes = b"") -> GrpcStep:
    """Take the request, with a response of these bytes."""

    async def step(context: grpc.aio.ServicerContext) -> bytes:
        return body

    return step


def grpc_status(
    code: int, text: str = "on purpose", *, retry_s: float | None = None, details: bytes = b""
) -> GrpcStep:
    """Answer a status code, with a RetryInfo or raw bytes as its details."""

    async def step(context: grpc.aio.ServicerContext) -> bytes:
        if retry_s is not None or details:
            bytes_ = details or status_details(code, text, retry_s)
            context.set_trailing_metadata((("grpc-status-details-bin", bytes_),))
        await context.abort(next(c for c in grpc.StatusCode if c.value[0] == code), text)
        raise AssertionError

    return step


async def grpc_hang(context: grpc.aio.ServicerContext) -> bytes:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


class GrpcServer(_Server):
    """The three OTLP services on one port; `peers` are the connections that requests came by."""

    address = ""

    def __init__(self) -> None:
        super().__init__()
        self.peers: set[str] = set()
        self._server: grpc.aio.Server | None = None

    async def start(
        self, credentials: grpc.ServerCredentials | None = None, port: int = 0, host="localhost"
    ) -> None:
        """Listen; `address` is the host and port."""
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1),
                                                ("grpc.max_send_message_length", -1),
                                                ("grpc.so_reuseport", 0),
                                                ("grpc.max_metadata_size", 1 << 20)])  # fmt: skip
        self._server.add_generic_rpc_handlers((_Handler(self),))
        target = f"{host}:{port}"
        bound = (
            self._server.add_secure_port(target, credentials)
            if credentials
            else self._server.add_insecure_port(target)
        )
        self.address = f"{host}:{bound}" if bound > 1 else target
        await self._server.start()

    async def stop(self) -> None:
        """Close everything at once, also calls in flight."""
        if self._server:
            await self._server.stop(None)
            self._server = None

    async def answer(self, signal: str, path: str, body: bytes, context: Any) -> bytes:
        headers = dict(context.invocation_metadata())
        self.peers.add(context.peer())
        self.note(Received(signal, REQUESTS[signal].FromString(body), headers, path))
        return await self.next_step(grpc_reply())(context)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        path = call.method
        service = path.split("/")[1].split(".")[-1].removesuffix("Service").lower()
        signal = {"trace": "traces"}.get(service, service)

        async def export(body: bytes, context: Any) -> bytes:
            return await self._server.answer(signal, path, body, context)

        return grpc.unary_unary_rpc_method_handler(export)


HttpStep = Callable[[asyncio.StreamWriter], Awaitable[None]]


def http_reply(
    status: int = 200,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    kind: str = PROTOBUF,
) -> HttpStep:
    """Answer with a status, a body of a content type, and further headers."""
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
    head = f"HTTP/1.1 {status} Reason\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
    return http_raw(head.encode() + b"\r\n" + body)


def http_raw(data: bytes, *, close: bool = False) -> HttpStep:
    """Answer these bytes, as they are."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return step


def http_endless(head: bytes, piece: bytes) -> HttpStep:
    """Answer a head and then pieces for ever."""

    async def step(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    return step


def http_slow(data: bytes, pause_s: float = 0.02) -> HttpStep:
    """Answer byte by byte."""

    async def step(writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause_s)

    return step


async def http_hang(writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def http_close(writer: asyncio.StreamWriter) -> None:
    """Close the connection in place of an answer."""
    writer.transport.abort()


class HttpServer(_Server):
    """Any path that ends in a signal's name; keep-alive; gzip; protobuf and JSON."""

    port = 0

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        """Listen; `url` is the base URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if context else 'http'}://localhost:{self.port}"

    async def stop(self) -> None:
        """Close everything at once, also requests in flight."""
        if self._server:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(EOFError, OSError, asyncio.CancelledError):
                while not writer.is_closing():
                    self.note(await _read_request(reader))
                    await self.next_step(http_reply())(writer)
        finally:
            writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> Received:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    method, path, version = first.split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    if headers.get("content-encoding") == "gzip":
        body = zlib.decompress(body, wbits=31)
    signal = path.partition("?")[0].rpartition("/")[2]
    kind = REQUESTS[signal]
    if headers["content-type"] == "application/json":
        return Received(signal, otlp_json_reader.parse(body, kind), headers, path)
    assert headers["content-type"] == PROTOBUF
    return Received(signal, kind.FromString(body), headers, path)


@contextlib.asynccontextmanager
async def serving(server: Any, *arguments: Any) -> AsyncIterator[Any]:
    """A server for the length of a block."""
    await server.start(*arguments)
    try:
        yield server
    finally:
        await server.stop()
