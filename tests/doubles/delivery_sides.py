"""Those who deliver OTLP in tests of delivery: in over HTTP, a queue on a disk, out over gRPC.

Two pairs with the same promise. What the agent accepts of the critical weight, and the collector with
`fsync: true`, survives a loss of power; what the agent accepts of a lower weight, and the collector as it
comes, survives all but that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterator

from doubles import agent_process, otlp_feed, real_collector

from otel_oom.pipeline import weights

QUEUE_SIZE = 100_000
"""Requests: more than are sent in a quarter of an hour, so that nobody refuses."""
_MORE = """
exporters:
  otlp:
    endpoint: "127.0.0.1:{sink}"
    tls: {{insecure: true}}
    sending_queue: {{storage: file_storage, queue_size: {queue_size}}}
extensions:
  file_storage: {{directory: "{folder}/queue", create_directory: true, fsync: {fsync}}}
service:
  extensions: [health_check, file_storage]
  pipelines:
    logs: {{receivers: [otlp], processors: [], exporters: [otlp]}}
"""


@dataclasses.dataclass
class Running:
    """A side that takes records: its process, and the port of its HTTP."""

    pid: int
    port: int
    stopped: agent_process.Stopped | None = None
    """How it ended, if that is known."""


@contextlib.contextmanager
def _agent(folder: pathlib.Path, sink: int, *, weight: int) -> Iterator[Running]:
    [port] = real_collector.free_ports(1)
    queue = {"storage": "file_storage", "queue_size": QUEUE_SIZE}
    exporter = {"endpoint": f"http://127.0.0.1:{sink}", "sending_queue": queue}
    storage = {"directory": f"{folder}/queue", "create_directory": True}
    pipeline = {"receivers": ["otlp_feed"], "exporters": ["otlp_grpc"], "weight": weight}
    config = {
        "receivers": {"otlp_feed": {"port": port}},
        "exporters": {"otlp_grpc": exporter},
        "extensions": {"file_storage": storage},
        "service": {"extensions": ["file_storage"], "pipelines": {"logs": pipeline}},
    }
    environment = otlp_feed.installed(folder)
    with agent_process.running(json.dumps(config), folder, environment=environment) as process:
        running = Running(process.process.pid, port)
        yield running
        running.stopped = process.stop()


@contextlib.contextmanager
def _collector(folder: pathlib.Path, sink: int, *, fsync: bool) -> Iterator[Running]:
    binary = real_collector.build("delivery")
    more = _MORE.format(
        sink=sink, folder=folder, queue_size=QUEUE_SIZE, fsync="true" if fsync else "false"
    )
    with real_collector.running(binary, folder, more=more) as peer:
        yield Running(peer.pid, int(peer.http_endpoint.rpartition(":")[2]))


Side = Callable[[pathlib.Path, int], contextlib.AbstractContextManager[Running]]
PAIRS: list[dict[str, Side]] = [
    {
        "otel-oom, weight 10": functools.partial(_agent, weight=weights.CRITICAL),
        "collector, `fsync: true`": functools.partial(_collector, fsync=True),
    },
    {
        "otel-oom, weight 5": functools.partial(_agent, weight=weights.DEFAULT),
        "collector, as it comes": functools.partial(_collector, fsync=False),
    },
]
