"""How long after the kernel's mark the agent knows of a kill, and when a collector has its record.

Four rounds of kills on an idle host, each in a cgroup of its own, one after the other:

1. mark -> decoded in the agent, beside a plain reader of /dev/kmsg that sees the line
   "Killed process" of the same kills;
2. the victim's exit -> its record in the handler of an OTLP/gRPC server (grpcio);
3. the same, with an `idle_timeout` so short that gRPC starts and connects anew for each kill;
4. the victim's exit -> its record in the file of the real collector (no `batch` there, its file
   exporter flushes each millisecond).

Who measures is a process of its own and blocks meanwhile. Run by `make bench`.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import (
    agent_process,
    kernel_log,
    memory_cgroup,
    oom_capture,
    otlp_json_reader,
    otlp_server,
    real_collector,
    skips,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_oom.pipeline import otlp
from otel_oom.receivers.oom import records

KILLS = 200
MIB = 1 << 20
PAUSE_S = 0.02  # between kills, for the host to be idle again
SETTLED_S = 1.0  # after the last kill
TAIL_S = 0.0005
SHORT = "5ms"  # idle_timeout, well below the pause
COLLECTOR = """
exporters: {file: {flush_interval: 1ms}}
service: {pipelines: {logs: {processors: [], exporters: [file]}}}
"""


class Child:
    """A measuring process: ready when made; `result` ends it and gives the JSON that it prints."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.said = self._process.stdout.readline().split()[1:]

    def result(self) -> Any:
        """What it noted."""
        out, _ = self._process.communicate(timeout=60)
        return json.loads(out)


def make_kills() -> list[int]:
    """The pids, in order."""
    pids = []
    for _ in range(KILLS):
        with memory_cgroup.temporary(16 * MIB) as group:
            hog = group.hog("eat=32M")
            hog.wait()
            pids.append(hog.pid)
        time.sleep(PAUSE_S)
    time.sleep(SETTLED_S)
    return pids


def first_round(folder: str) -> tuple[list[float], list[float]]:
    """Milliseconds from the mark: decoded by the agent; seen in the kernel log."""
    log = Child(kernel_log.__file__)
    agent = Child(__file__, "decoding", folder)
    pids = make_kills()
    decoded = {pid: (mark_ns, at_ns) for pid, mark_ns, at_ns in agent.result()}
    seen = {int(pid): at_ns for pid, at_ns in log.result()["seen"].items()}
    both = [pid for pid in pids if pid in seen]
    ours = [(decoded[pid][1] - decoded[pid][0]) / 1e6 for pid in pids]
    theirs = [(seen[pid] - decoded[pid][0]) / 1e6 for pid in both]
    print(f"kernel log: {len(both)} of {len(pids)} kills seen; agent: {len(ours)}")
    return ours, theirs


async def decoding(folder: str) -> None:
    """The receiver in this process; prints (pid, time of the mark, time when it was decoded)."""
    marks = []
    plain = records.decode

    def decode(raw: bytes) -> records.Record:
        record = plain(raw)
        if isinstance(record, records.Mark):
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            marks.append((record.raw.tgid, record.raw.boot_ns, now_ns))
        return record

    records.decode = decode
    async with oom_capture.running(pathlib.Path(folder)):
        await ready_until_stdin_ends()
    print(json.dumps(marks))


async def ready_until_stdin_ends(*said: str) -> None:
    """Tell the parent to go on, and wait until it has enough."""
    print("ready", *said, flush=True)
    await asyncio.to_thread(sys.stdin.read)


def after_exits(message: Any, arrived_ns: int) -> Iterator[tuple[int, float]]:
    """Of each record whose victim's exit was seen: the pid, and milliseconds until it arrived."""
    for record in records_of(message):
        has = otlp.attributes(record.attributes)
        if "oom.exit.latency" in has:  # a kill of others may be told from the counters alone
            exit_ns = record.time_unix_nano + has["oom.exit.latency"] * 1e9
            yield has["process.pid"], (arrived_ns - exit_ns) / 1e6


class TimedServer(otlp_server.GrpcServer):
    """Notes when a request is in its handler, and looks at it later."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[int, str, bytes]] = []

    async def answer(self, signal: str, path: str, body: bytes, context: Any) -> bytes:
        self.requests.append((time.time_ns(), signal, body))
        self.peers.add(context.peer())
        return b""


async def serving() -> None:
    """A server in this process; prints (pid, milliseconds after its exit), and its connections."""
    async with otlp_server.serving(TimedServer()) as server:
        await ready_until_stdin_ends(server.address)
    found = []
    for at_ns, signal, body in server.requests:
        if signal == "logs":
            message = otlp_server.REQUESTS[signal].FromString(body)
            found += after_exits(message, at_ns)
    print(json.dumps({"found": found, "connections": len(server.peers)}))


def records_of(message: Any) -> list[LogRecord]:
    """All log records of a message."""
    return [
        record
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


async def tailing(path: str) -> None:
    """Reads a growing file; prints (pid, milliseconds after its exit)."""
    lines: list[tuple[int, bytes]] = []
    part = b""
    stop = asyncio.create_task(ready_until_stdin_ends())
    with pathlib.Path(path).open("rb") as file:
        while not stop.done():
            while part := part + file.readline():
                if not part.endswith(b"\n"):
                    break
                lines.append((time.time_ns(), part))
                part = b""
            await asyncio.sleep(TAIL_S)
    found = []
    for at_ns, line in lines:
        if line.startswith(b'{"resourceLogs"'):
            message = otlp_json_reader.parse(line, otlp_server.REQUESTS["logs"])
            found += after_exits(message, at_ns)
    print(json.dumps({"found": found}))


def config(folder: str, endpoint: str, **options: str) -> str:
    """The agent as it stands beside a collector."""
    exporter = {"endpoint": endpoint, "tls": {"insecure": True}, **options}
    pipeline = {"receivers": ["oom"], "processors": ["resource"], "exporters": ["otlp_grpc"]}
    return json.dumps(
        {
            "receivers": {"oom": {"state_directory": folder}},
            "processors": {"resource": None},
            "exporters": {"otlp_grpc": exporter},
            "service": {"pipelines": {"logs": pipeline, "traces": pipeline, "metrics": pipeline}},
        }
    )


def measured(folder: str, endpoint: str, child: Child, **options: str) -> tuple[list[float], int]:
    """Milliseconds from exit to arrival of the kills made now; connections, where counted."""
    text = config(folder, endpoint, **options)
    with agent_process.running(text, pathlib.Path(folder)) as agent:
        pids = make_kills()
        agent.stop()
    result = child.result()
    arrived = dict(result["found"])
    return [arrived[pid] for pid in pids], result.get("connections", 0)


def second_round(folder: str, **options: str) -> tuple[list[float], int]:
    """To a server of our own."""
    child = Child(__file__, "serving")
    return measured(folder, child.said[0], child, **options)


def last_round(folder: str) -> list[float] | None:
    """To the file of the real collector."""
    if sentence := skips.go():
        print(f"left out the real collector: {sentence}")
        return None
    path = pathlib.Path(folder)
    with real_collector.running(real_collector.build(), path, more=COLLECTOR) as collector:
        child = Child(__file__, "tailing", str(collector.output))
        return measured(folder, collector.grpc_endpoint, child)[0]


def p99(values: list[float]) -> float:
    """The value that one in a hundred exceeds."""
    return statistics.quantiles(values, n=100, method="inclusive")[-1]


def row(name: str, values: list[float]) -> str:
    """A line of a table."""
    return f"| {name} | {statistics.median(values):.2f} ms | {p99(values):.2f} ms |"


def main() -> None:
    """Print the tables."""
    if sentence := skips.root():
        print(f"left out: {sentence}")
        return
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = first_round(folder)
        server, _ = second_round(folder)
        anew, connections = second_round(folder, idle_timeout=SHORT)
        collector = last_round(folder)
    print(f"\n{KILLS} kills, Linux {os.uname().release}\n")
    print("| from the kernel's mark | median | p99 |\n|---|---:|---:|")
    print(row('kernel log reader has the line "Killed process"', theirs))
    print(row("otel-oom has decoded the event", ours))
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"| ratio | {ratio:.2f} | {p99(theirs) / p99(ours):.2f} |\n")
    print("| from the victim's exit | median | p99 |\n|---|---:|---:|")
    print(row("record in an OTLP/gRPC server's handler", server))
    print(row(f"the same, gRPC closed between kills ({connections} connections)", anew))
    if collector:
        print(row("record in the real collector's file", collector))


MODES = {"decoding": decoding, "serving": serving, "tailing": tailing}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in MODES:
        asyncio.run(MODES[sys.argv[1]](*sys.argv[2:]))
    else:
        main()
