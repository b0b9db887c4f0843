"""A destination that counts: OTLP logs over gRPC, each record by the number in its time.

    python delivery_sink.py PORT RECORDS

`RECORDS` numbers can come. A line on stdin is answered with a line of JSON: how many records have
come, and how many different ones. As a process of its own, it does not take the time of who
is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import grpc
import grpc.aio
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

FIRST_NS = 1_800_000_000_000_000_000
"""The time of record 0; that of record n is n ns later."""
_EXPORT = "opentelemetry.proto.collector.logs.v1.LogsService", "Export"


@dataclasses.dataclass(frozen=True)
class Counts:
    """What has come."""

    records: int
    different: int


class Sink:
    """A running sink; `port` is where it listens."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process, self.port = process, port

    def counts(self) -> Counts:
        """What has come so far."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counts(**json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def running(port: int, records: int) -> Iterator[Sink]:
    """A sink that listens when yielded."""
    command = [sys.executable, "-P", __file__, str(port), str(records)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        sink = Sink(process, port)
        sink.counts()
        yield sink


class _Counter:
    def __init__(self, records: int) -> None:
        self._seen = bytearray(records)
        self._records = 0

    async def take(self, body: bytes, context: object) -> bytes:
        """One request."""
        for resource in LogsData.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    self._seen[record.time_unix_nano - FIRST_NS] = 1
                    self._records += 1
        return b""

    def line(self) -> str:
        """The answer to a line."""
        return json.dumps({"records": self._records, "different": self._seen.count(1)})


async def _main(port: int, records: int) -> None:
    counter = _Counter(records)
    service, method = _EXPORT
    handlers = {method: grpc.unary_unary_rpc_method_handler(counter.take)}
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    while await asyncio.to_thread(sys.stdin.readline):
        print(counter.line(), flush=True)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
