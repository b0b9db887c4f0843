"""The real OpenTelemetry Collector as a peer: OTLP in over gRPC and HTTP, OTLP JSON out to a file.

Built by tools/collector/build.sh from Go modules. Its file exporter appends one JSON message a
line, flushed every 100 ms, so a test waits for records with `log_records(count)`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from doubles import certificates

_BUILD = pathlib.Path(__file__).parents[2] / "tools" / "collector" / "build.sh"
_READY_S = 30.0
_CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"{tls}}}
      http: {{endpoint: "127.0.0.1:{http}"{tls}}}
processors:
  batch: {{timeout: 20ms}}
exporters:
  debug: {{verbosity: basic}}
  file: {{path: "{output}", flush_interval: 100ms}}
extensions:
  health_check: {{endpoint: "127.0.0.1:{health}"}}
service:
  extensions: [health_check]
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    logs: {{receivers: [otlp], processors: [batch], exporters: [file, debug]}}
    traces: {{receivers: [otlp], processors: [batch], exporters: [file, debug]}}
    metrics: {{receivers: [otlp], processors: [batch], exporters: [file, debug]}}
"""


class BuildFailed(Exception):
    """The collector could not be built; the text ends with what the builder said last."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collector:
    """A running collector: where to send, and what it wrote."""

    grpc_endpoint: str
    """`host:port`."""
    http_endpoint: str
    """Base URL; signals go to `/v1/logs` and so on."""
    output: pathlib.Path
    """The file exporter's file: one `resourceLogs`, `resourceSpans` or `resourceMetrics` a line."""
    log: pathlib.Path
    """What the collector says of itself."""
    pid: int
    """Of its process."""

    def messages(self) -> list[dict[str, Any]]:
        """The messages written so far; a line that is still being written is left out."""
        whole, _, _ = self.output.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def log_records(self, count: int = 0, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """All log records, once there are at least `count`. Raises TimeoutError."""
        return self._items("resourceLogs", "scopeLogs", "logRecords", count, timeout_s)

    def spans(self, count: int = 0, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """All spans, once there are at least `count`. Raises TimeoutError."""
        return self._items("resourceSpans", "scopeSpans", "spans", count, timeout_s)

    def metrics(self, count: int = 0, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """All metrics, once there are at least `count`. Raises TimeoutError."""
        return self._items("resourceMetrics", "scopeMetrics", "metrics", count, timeout_s)

    def _items(
        self, resources: str, scopes: str, items: str, count: int, timeout_s: float
    ) -> list[dict[str, Any]]:
        deadline = time.monotonic() + timeout_s
        while True:
            found = [
                item
                for message in self.messages()
                for resource in message.get(resources, [])
                for scope in resource[scopes]
                for item in scope[items]
            ]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} {items} came; see {self.log}")
            time.sleep(0.02)


def build(name: str = "builder") -> pathlib.Path:
    """The binary of tools/collector/NAME.yaml; minutes the first time, then from the cache."""
    done = subprocess.run([_BUILD, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed((done.stderr.strip().splitlines() or ["no message"])[-1])
    return pathlib.Path(done.stdout.strip())


@contextlib.contextmanager
def running(
    binary: pathlib.Path,
    folder: pathlib.Path,
    *,
    grpc_port: int | None = None,
    pair: certificates.Pair | None = None,
    more: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Collector]:
    """A collector with its config and output in `folder`, ready when yielded.

    With `pair`, a certificate for `localhost` and its key, it speaks TLS. `more` is YAML that is
    merged over its config, `environment` has variables beside ours.
    """
    grpc, http_, health = free_ports(3)
    grpc = grpc_port or grpc
    output, log, config = folder / "otlp.jsonl", folder / "collector.log", folder / "collector.yaml"
    tls = f', tls: {{cert_file: "{pair.cert}", key_file: "{pair.key}"}}' if pair else ""
    config.write_text(_CONFIG.format(grpc=grpc, http=http_, health=health, output=output, tls=tls))
    over = folder / "collector-more.yaml"
    over.write_text(more)
    command = [str(binary), "--config", f"file:{config}", "--config", f"file:{over}"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    try:
        _wait_until_ready(process, health, log)
        yield Collector(
            grpc_endpoint=f"localhost:{grpc}" if pair else f"127.0.0.1:{grpc}",
            http_endpoint=f"https://localhost:{http_}" if pair else f"http://127.0.0.1:{http_}",
            output=output,
            log=log,
            pid=process.pid,
        )
    finally:
        process.terminate()
        process.wait(_READY_S)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: pathlib.Path) -> None:
    deadline = time.monotonic() + _READY_S
    while not _healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the collector did not start:\n{log.read_text()}")
        time.sleep(0.05)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that nobody listens on; all held until the last one is found."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
