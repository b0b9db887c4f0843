"""Ring records to encoded OTLP, on one core: how many a second, beside plain protobuf parsing.

A kill is three ring records (mark, delivery, exit) and gives one log record and one span. The
records are those of one real kill, changed as in a storm: each kill is of another process with
other numbers, asked for by another process, at another time, in one of 16 cgroups. As in a
storm of one workload, ancestors and command line are the same from kill to kill, and what is
made of them is kept. The result is the body of an export request, as an exporter sends it when
no component before it has asked for the message; one that does pays for the parsing, about what
the peer takes. What the receiver reads besides, in /proc and in the cgroup's files, is not in it.
The peer in the same run is the least that can be done with the same result: protobuf's C parses
it and writes it once. Run by `make bench`.
"""

from __future__ import annotations

import ctypes
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import oom_ring
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom.receivers.oom import records

KILLS = 2_040
ROUNDS = 15
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
LARGE = 1 << 30
BATCH_KILLS = 85  # as many as one drain of the ring of 256 records holds


def pipeline(ring: list[bytes]) -> list[tuple[bytes, bytes]]:
    """What the receiver does between the ring and the exporter's queue: logs, and spans."""
    encoder, assembler, out = oom_ring.encoder(), oom_ring.assembler(), []
    for start in range(0, len(ring), 3 * BATCH_KILLS):
        for record in ring[start : start + 3 * BATCH_KILLS]:
            assembler.take(records.decode(record), 0.0)
        reports, spans = assembler.ready(0.0)
        logs = encoder.logs(reports, oom_ring.BOOT_TO_UNIX_NS, oom_ring.NOW_NS)
        traces = encoder.spans(spans, oom_ring.BOOT_TO_UNIX_NS)
        assert logs.items == traces.items == BATCH_KILLS
        out.append((logs.encoded(), traces.encoded()))
    return out


def peer(encoded: list[tuple[bytes, bytes]]) -> None:
    """Parse and write the result."""
    for logs, traces in encoded:
        LogsData.FromString(logs).SerializeToString()
        TracesData.FromString(traces).SerializeToString()


def best_us(work: Callable[[], object]) -> float:
    """CPU microseconds a kill in the best of some rounds: the least disturbed by others."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / KILLS * 1e6


def keep_memory() -> None:
    """Let glibc return no memory to the kernel between rounds.

    Whether it does depends on what happens to lie at the end of the heap, and made the peer half
    as slow again with other records.
    """
    mallopt = ctypes.CDLL(None).mallopt
    assert mallopt(M_TRIM_THRESHOLD, LARGE)
    assert mallopt(M_MMAP_THRESHOLD, LARGE)


def main() -> None:
    """Print the table."""
    keep_memory()
    ring = oom_ring.many(KILLS)
    encoded = pipeline(ring)
    ours = best_us(lambda: pipeline(ring))
    decoding = best_us(lambda: [records.decode(record) for record in ring])
    least = best_us(lambda: peer(encoded))
    written = sum(len(logs) + len(traces) for logs, traces in encoded)
    print(f"a kill: 3 ring records, {sum(map(len, ring)) / KILLS:.0f} bytes; ", end="")
    print(f"a log record and a span, {written / KILLS:.0f} bytes of OTLP\n")
    print("|  | us a kill | ring records/s | kills/s | ratio to the peer |")
    print("|---|---:|---:|---:|---:|")
    for name, taken in (
        ("ring to encoded OTLP", ours),
        ("of it: decoding", decoding),
        ("peer: parse and write the result", least),
    ):
        rate = 1e6 / taken
        print(f"| {name} | {taken:.1f} | {3 * rate:,.0f} | {rate:,.0f} | {taken / least:.1f} |")


if __name__ == "__main__":
    main()
