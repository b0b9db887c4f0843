"""Each OTLP exporter with a server of its own, which does what a script says.

sums, requests, agent = await otlp_sides.outcome(side, side.unavailable(), side.ok())
"""

from __future__ import annotations

import dataclasses
from typing import Any

from doubles import exporting, otlp_server

from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline.sending.queue import QueueConfig

ONE = QueueConfig(num_consumers=1)


@dataclasses.dataclass
class Grpc:
    """otlp_grpc and its server."""

    server: otlp_server.GrpcServer
    name = "grpc"
    module = otlp_grpc

    def config(self) -> dict[str, Any]:
        return {"endpoint": f"http://{self.server.address}"}

    def ok(self, body=b""):
        return otlp_server.grpc_reply(body)

    def unavailable(self):
        return otlp_server.grpc_status(14)

    def hang(self):
        return otlp_server.grpc_hang


@dataclasses.dataclass
class Http:
    """otlp_http and its server."""

    server: otlp_server.HttpServer
    encoding: str = "proto"
    name = "http"
    module = otlp_http

    def config(self) -> dict[str, Any]:
        return {"endpoint": self.server.url, "encoding": self.encoding}

    def ok(self, body=b""):
        return otlp_server.http_reply(200, body)

    def unavailable(self):
        return otlp_server.http_reply(503)

    def hang(self):
        return otlp_server.http_hang


def exporter_of(module, **config):
    """A started OTLP exporter: one request at a time, a timeout that no test waits for."""
    return exporting.started(module, **{"sending_queue": ONE, "timeout": 20.0, **config})


async def outcome(side, *script, batch=None, **config):
    """Send one batch against a script; the sum and the number of requests that arrived."""
    side.server.script[:] = script
    async with exporter_of(side.module, **{**side.config(), **config}) as (agent, exporter):
        await agent.consume(exporter, batch or exporting.logs("a", "b", "c"))
        return await exporting.settled(agent), len(side.server.received), agent
