"""Those who deliver OTLP in tests of delivery: in over HTTP, a queue on a disk, out over gRPC.

The agent, and the real collector: as it comes (its `file_storage` does not wait for the disk), and with
`fsync: true`, by which what it has accepted survives a loss of power, as what the agent has accepted does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator

from doubles import agent_process, otlp_feed, real_collector

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
def agent(folder: pathlib.Path, sink: int) -> Iterator[Running]:
    """The agent, with what it needs to take OTLP."""
    [port] = real_collector.free_ports(1)
    queue = {"storage": "file_storage", "queue_size": QUEUE_SIZE}
    exporter = {"endpoint": f"http://127.0.0.1:{sink}", "sending_queue": queue}
    storage = {"directory": f"{folder}/queue", "create_directory": True}
    pipeline = {"receivers": ["otlp_feed"], "exporters": ["otlp_grpc"]}
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


@contextlib.contextmanager
def collector(folder: pathlib.Path, sink: int) -> Iterator[Running]:
    """The collector as it comes."""
    with _collector(folder, sink, fsync=False) as running:
        yield running


@contextlib.contextmanager
def collector_fsync(folder: pathlib.Path, sink: int) -> Iterator[Running]:
    """The collector that waits for the disk."""
    with _collector(folder, sink, fsync=True) as running:
        yield running


Side = Callable[[pathlib.Path, int], contextlib.AbstractContextManager[Running]]
SIDES: dict[str, Side] = {
    "otel-oom": agent,
    "collector, `fsync: true`": collector_fsync,
    "collector, as it comes": collector,
}
