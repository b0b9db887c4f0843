"""The real Grafana Tempo in one process: OTLP in over gRPC and HTTP, traces by id and by TraceQL out."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from doubles import grafana_backend, real_collector
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

_CONFIG = """
multitenancy_enabled: true
usage_report: {{reporting_enabled: false}}
server:
  http_listen_address: 127.0.0.1
  http_listen_port: {port}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: {internal}
  log_level: warn
distributor:
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1}}
  receivers:
    otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}, http: {{endpoint: "127.0.0.1:{http}"}}}}}}
ingester:
  lifecycler:
    address: 127.0.0.1
    ring: {{kvstore: {{store: inmemory}}, replication_factor: 1}}
    final_sleep: 0s
    min_ready_duration: 0s
  # What is searched is cut from what comes once it is quiet.
  trace_idle_period: 1s
  flush_check_period: 1s
compactor:
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1, wait_stability_min_duration: 0s}}
metrics_generator:
  ring: {{kvstore: {{store: inmemory}}, instance_addr: 127.0.0.1}}
storage:
  trace:
    backend: local
    wal: {{path: "{folder}/tempo-wal"}}
    local: {{path: "{folder}/tempo-blocks"}}
"""


class Tempo(grafana_backend.Backend):
    """A running Tempo."""

    def __init__(self, port: int, grpc: int, http: int) -> None:
        super().__init__(port)
        self.grpc_endpoint = f"http://127.0.0.1:{grpc}"
        self.http_endpoint = f"http://127.0.0.1:{http}"

    def trace(self, trace_id: str, tenant: str) -> TracesData | None:
        """All that it has of a trace; `tempopb.Trace` has the fields of `TracesData`."""
        try:
            body = self.get(f"/api/traces/{trace_id}", tenant, {"Accept": "application/protobuf"})
        except grafana_backend.Refused as refused:
            if refused.status == 404:
                return None
            raise
        return TracesData.FromString(body)

    def search(self, query: str, tenant: str, start_s: int, end_s: int) -> list[dict[str, Any]]:
        """The traces that a TraceQL query finds."""
        found = self.get_json("/api/search", tenant, q=query, start=start_s, end=end_s, limit=100)
        traces: list[dict[str, Any]] = found["traces"]
        return traces


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[Tempo]:
    """A Tempo that keeps everything in `folder`, ready when yielded. Raises BuildFailed."""
    port, internal, grpc, http = real_collector.free_ports(4)
    config = _CONFIG.format(port=port, internal=internal, grpc=grpc, http=http, folder=folder)
    tempo = Tempo(port, grpc, http)
    with grafana_backend.running("tempo", config, folder, tempo):
        yield tempo
