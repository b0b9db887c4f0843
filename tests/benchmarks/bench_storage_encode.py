"""Slow operations on one core: how many a second, beside plain protobuf parsing.

Two kinds of operations, changed from one to the next as in a storm: each has other times and
another number, of 64 processes, 256 files, 16 cgroups. A read waits for one request; an fsync
waits for its data and then for a commit, whose thread waits four times in it.
*encode* is the span and the log record of an operation whose verdict is known. *whole* begins at
the bytes of the ring: decoding, timeline, verdict, names, encoding. What is read in /proc for a file's path is
measured apart. The peer in the same run is the least that can be done with the same result:
protobuf's C parses it and writes it once. Run by `make bench`.
"""

from __future__ import annotations

import os
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import storage_record as made
from doubles import storage_told as told
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom.bpf.storage_operations_events import StorageFile, StorageOperation
from otel_oom.receivers.storage import files, records, slow, timeline, verdict

OPERATIONS = 1_024
ROUNDS = 15
BATCH = 128
CGROUPS = {99 + number: f"/kubepods/pod{number}/container" for number in range(16)}


def ring(kind: str) -> list[bytes]:
    """Reports of one kind, each of its own numbers and times."""
    raw, joined = told.variants()[kind]
    return [_changed(raw, joined, number) for number in range(OPERATIONS)]


def _changed(raw: StorageOperation, joined: StorageOperation | None, number: int) -> bytes:
    file = StorageFile(4711 + number % 256, made.DISK, made.EXT4_MAGIC, 7, 0o100644)
    later = made.shifted(
        raw._replace(
            number=number + 1,
            tgid=1000 + number % 64,
            tid=1000 + number % 64,
            cgroup_id=99 + number % 16,
            file=made.packed_file(file),
        ),
        number * 1_000_003,
    )
    return made.packed(later, made.shifted(joined, number * 1_000_003) if joined else None)


class Agent:
    """What the receiver does between the ring and the exporter's queue."""

    def __init__(self) -> None:
        self.encoder = told.encoder(cgroup_path=CGROUPS.get)
        self.judge = verdict.Judge(stage_ns=10_000_000, total_ns=20_000_000)
        self.known = slow.Known(
            told.DEVICES.get, lambda operation: f"/var/lib/mysql/{operation.file.inode}.ibd"
        )

    def told(self, record: bytes) -> slow.Slow:
        """One report, judged and named."""
        operation = records.decode(record)
        line = timeline.of(operation, lambda _device: True)
        found = self.judge.judge(line)
        assert found is not None
        return slow.of_call(operation, line, found, self.known)

    def encode(self, slows: list[slow.Slow]) -> list[tuple[bytes, bytes]]:
        """Log records and spans, in batches."""
        self.encoder.ids.cache_clear()  # each operation is a new one
        out = []
        for start in range(0, len(slows), BATCH):
            logs, spans = self.encoder.batches(
                slows[start : start + BATCH], told.TO_UNIX_NS, told.NOW_NS
            )
            out.append((logs.encoded(), spans.encoded()))
        return out

    def whole(self, reports: list[bytes]) -> list[tuple[bytes, bytes]]:
        """From the ring's bytes."""
        out = []
        for start in range(0, len(reports), BATCH):
            out += self.encode([self.told(record) for record in reports[start : start + BATCH]])
        return out


def peer(encoded: list[tuple[bytes, bytes]]) -> None:
    """Parse and write the result."""
    for logs, spans in encoded:
        LogsData.FromString(logs).SerializeToString()
        TracesData.FromString(spans).SerializeToString()


def best_us(work: Callable[[], object], items: int = OPERATIONS) -> float:
    """CPU microseconds an item in the best of some rounds: the least disturbed by others."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / items * 1e6


def rows(kind: str) -> list[tuple[str, float]]:
    """What is measured of one kind of operation."""
    agent, reports = Agent(), ring(kind)
    slows = [agent.told(record) for record in reports]
    encoded = agent.encode(slows)
    written = sum(len(logs) + len(spans) for logs, spans in encoded)
    print(
        f"{kind}: {len(slows[0].line.kinds)} stages, {len(reports[0])} bytes in the ring, ", end=""
    )
    print(f"{written / OPERATIONS:.0f} bytes of OTLP\n")
    return [
        ("whole: ring to encoded OTLP", best_us(lambda: agent.whole(reports))),
        ("of it: decode", best_us(lambda: [records.decode(record) for record in reports])),
        ("of it: encode span and log record", best_us(lambda: agent.encode(slows))),
        ("peer: parse and write the result", best_us(lambda: peer(encoded))),
    ]


def path_us() -> float:
    """A file's path from /proc."""
    with pathlib.Path(__file__).open() as opened:
        found = os.fstat(opened.fileno())
        device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
        file = StorageFile(found.st_ino, device, 0, opened.fileno(), found.st_mode)
        operation = made.decoded(made.operation(30, file=file, tgid=os.getpid()))
        paths = files.Files(pathlib.Path("/"))
        assert paths.path(operation) == str(pathlib.Path(__file__).resolve())
        return best_us(lambda: [paths.path(operation) for _ in range(OPERATIONS)])


def main() -> None:
    """Print the tables."""
    for kind in ("read", "fsync"):
        found = rows(kind)
        least = found[-1][1]
        print("|  | us an operation | operations/s | ratio to the peer |")
        print("|---|---:|---:|---:|")
        for name, taken in found:
            print(f"| {name} | {taken:.1f} | {1e6 / taken:,.0f} | {taken / least:.1f} |")
        print()
    print(f"a file's path from /proc: {path_us():.1f} us")


if __name__ == "__main__":
    main()
