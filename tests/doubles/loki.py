"""The real Grafana Loki in one process: OTLP in over HTTP, lines by LogQL out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator

from doubles import collected, grafana_backend, real_collector

_CONFIG = """
auth_enabled: true
analytics: {{reporting_enabled: false}}
server:
  http_listen_address: 127.0.0.1
  http_listen_port: {port}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: {internal}
  log_level: warn
common:
  instance_addr: 127.0.0.1
  path_prefix: "{folder}/loki"
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
  storage: {{filesystem: {{chunks_directory: "{folder}/chunks", rules_directory: "{folder}/rules"}}}}
schema_config:
  configs:
    - {{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {{prefix: index_, period: 24h}}}}
ingester: {{lifecycler: {{min_ready_duration: 0s, final_sleep: 0s}}}}
"""
_APART = "categorize-labels"
"""What makes Loki answer with structured metadata apart from the labels of the stream."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A log record as Loki has it."""

    time_ns: int
    text: str
    labels: dict[str, str]
    """Of its stream: what a query's braces can name."""
    metadata: dict[str, str]
    """Structured metadata: what a query's filters can name."""


class Loki(grafana_backend.Backend):
    """A running Loki."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.endpoint = f"http://127.0.0.1:{port}/otlp"

    def lines(self, query: str, tenant: str, start_ns: int, end_ns: int) -> list[Line]:
        """What a LogQL query finds in that time, oldest first."""
        found = json.loads(
            self.get(
                "/loki/api/v1/query_range",
                tenant,
                {"X-Loki-Response-Encoding-Flags": _APART},
                query=query, start=start_ns, end=end_ns, limit=5000, direction="forward",
            )
        )  # fmt: skip
        return [
            Line(int(time_ns), text, stream["stream"], more.get("structuredMetadata", {}))
            for stream in found["data"]["result"]
            for time_ns, text, more in stream["values"]
        ]

    def flush(self) -> None:
        """Let the ingester close its chunks and write them to the store; they are there on return."""
        before = self._flushed()
        self.request("POST", "/flush", "")
        collected.until(lambda: self._flushed() > before, "a chunk in the store")

    def _flushed(self) -> int:
        text = self.get("/metrics", "").decode()
        counts = re.findall(r"^loki_ingester_chunks_flushed_total\S* (\d+)$", text, re.MULTILINE)
        return sum(map(int, counts))


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[Loki]:
    """A Loki that keeps everything in `folder`, ready when yielded. Raises BuildFailed."""
    port, internal = real_collector.free_ports(2)
    loki = Loki(port)
    config = _CONFIG.format(port=port, internal=internal, folder=folder)
    with grafana_backend.running("loki", config, folder, loki):
        yield loki
