"""Slow requests to encoded OTLP, and a collection of histograms, on one core: CPU time of each.

First: ring records of slow block requests, each at another time, for other bytes of the disk, in
one of 16 cgroups, become a span and a log record each, as bodies of export requests. The peer is
the least that can be done with the same result: protobuf's C parses it and writes it once.

Second: a collection of as many series as there are by default, and of ten thousand, in which all,
one in ten or none have moved. The histograms are as read out of the kernel's memory; to read them
is not in it. The peer makes the same messages by protobuf's own classes. Run by `make bench`.
"""

from __future__ import annotations

import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles.storage_tier import DEVICE, Host
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom.bpf.storage_events import StorageRequest, StorageRequestLayout
from otel_oom.pipeline import otlp
from otel_oom.pipeline.incidents import Incidents
from otel_oom.receivers.storage import devices, encode, metrics, requests, workloads
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.histogram import BUCKETS, FIRST_BUCKET, SCALE, Histogram
from otel_oom.receivers.storage.streams import Point, Stream

REQUESTS, DRAINED = 10_240, 256
ROUNDS = 9
MS = 1_000_000
VDA = 254 << 20


def ring(cgroups: list[int]) -> list[bytes]:
    """Records as the kernel writes them."""
    chance = random.Random(1)
    form, records = StorageRequestLayout.FORMAT, []
    for number in range(REQUESTS):
        start, waited = number * MS, chance.randrange(MS)
        took, sector = chance.randrange(10 * MS, 90 * MS), chance.randrange(1 << 31)
        times = (start, start + waited, start + waited + took)
        file = (chance.randrange(1 << 20), VDA | 1)
        cgroup = cgroups[number % len(cgroups)]
        records.append(form.pack(*times, cgroup, sector, *file, VDA, number % 2, 1, 4096, 0))
    return records


def encoded_by(
    encoder: encode.Encoder, records: list[bytes], reporter: requests.Reporter
) -> list[tuple[bytes, bytes]]:
    """What the receiver does between the ring and the exporter's queue: logs, and spans."""
    encoder.ids.cache_clear()  # each request is a new one
    out = []
    form = StorageRequestLayout.FORMAT
    for first in range(0, len(records), DRAINED):
        slow = [StorageRequest._make(form.unpack(raw)) for raw in records[first : first + DRAINED]]
        found = [report for one in slow if (report := reporter.report(one))]
        assert len(found) == len(slow)
        logs, spans = encoder.batches(found, 10**18, 10**18)
        out.append((logs.encoded(), spans.encoded()))
    return out


def parse_and_write(encoded: list[tuple[bytes, bytes]]) -> None:
    """The peer of `encode`."""
    for logs, spans in encoded:
        LogsData.FromString(logs).SerializeToString()
        TracesData.FromString(spans).SerializeToString()


def points(count: int) -> list[Point]:
    """Histograms of some 60 filled buckets, in a cgroup for each two."""
    chance = random.Random(1)
    found = []
    for number in range(count):
        buckets = [0] * BUCKETS
        for _ in range(2000):
            buckets[min(BUCKETS - 1, max(0, round(chance.gauss(80, 12))))] += 1
        stream = Stream(
            DEVICE, f"/kubepods/pod{number // 2}", "nvme0n1", ("read", "write")[number % 2]
        )
        found.append(Point(stream, 1, Histogram(10**9, 3, buckets)))
    return found


def moved(found: list[Point], one_in: int) -> list[Point]:
    """The next collection: of one in so many the histogram is another object."""
    return [
        Point(point.stream, point.start_ns, Histogram(*point.total))  # type: ignore[misc]
        if one_in and number % one_in == 0
        else point
        for number, point in enumerate(found)
    ]


def by_messages(found: list[Point]) -> bytes:
    """The peer of a collection in which all have moved."""
    data = MetricsData()
    for point in found:
        resource = data.resource_metrics.add()
        resource.resource.attributes.append(
            otlp.key_value("process.linux.cgroup", str(point.stream.cgroup))
        )
        metric = resource.scope_metrics.add().metrics.add(name=point.stream.metric.name, unit="s")
        metric.exponential_histogram.aggregation_temporality = 2  # type: ignore[assignment]
        each, total = metric.exponential_histogram.data_points.add(), point.total
        assert isinstance(total, Histogram)
        each.attributes.append(otlp.key_value("storage.operation", point.stream.operation))
        each.attributes.append(otlp.key_value("disk.io.direction", point.stream.operation))
        each.attributes.append(otlp.key_value("system.device", point.stream.device))
        each.start_time_unix_nano, each.time_unix_nano, each.scale = 1, 2, SCALE
        each.count, each.sum, each.zero_count = total.measured, total.sum_ns / 1e9, total.zeros
        first = next(index for index, count in enumerate(total.buckets) if count)
        last = max(index for index, count in enumerate(total.buckets) if count)
        each.positive.offset = FIRST_BUCKET + first
        each.positive.bucket_counts.extend(total.buckets[first : last + 1])
    return data.SerializeToString()


def best_us(work: Callable[[], object], items: int) -> float:
    """CPU microseconds an item in the best of some rounds: the least disturbed by others."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / items * 1e6


def table_of_requests() -> None:
    """The first table."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        host = Host(root)
        host.disk("vda", VDA)
        (root / "proc/self/mountinfo").write_text("29 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
        cgroups = [host.cgroup(f"/kubepods/pod{number}") for number in range(16)]
        known = workloads.Workloads(root)
        reporter = requests.Reporter(root, Config(), known, devices.Devices(root))
        encoder = encode.Encoder(
            boot_id="boot", version="1", cgroup_path=known.path, overlapping=Incidents().overlapping
        )
        records = ring(cgroups)
        encoded = encoded_by(encoder, records, reporter)
        ours = best_us(lambda: encoded_by(encoder, records, reporter), REQUESTS)
        least = best_us(lambda: parse_and_write(encoded), REQUESTS)
    written = sum(len(logs) + len(spans) for logs, spans in encoded) / REQUESTS
    print(f"a slow request: a log record and a span, {written:.0f} bytes of OTLP\n")
    print("|  | us a request | requests/s | ratio to the peer |")
    print("|---|---:|---:|---:|")
    for name, taken in (("ring to encoded OTLP", ours), ("peer: parse and write it", least)):
        print(f"| {name} | {taken:.1f} | {1e6 / taken:,.0f} | {taken / least:.1f} |")


def table_of_collections() -> None:
    """The second table."""
    print("\n| series | moved | us a series | ms a collection | % of a core, one each 10 s |")
    print("|---:|---|---:|---:|---:|")
    for count in (512, 10_000):
        first = points(count)
        for name, one_in in (("all", 1), ("one in ten", 10), ("none", 0)):
            encoder = metrics.Encoder("1")
            list(encoder.batches(first, 2))
            rounds = iter([moved(first, one_in) for _ in range(ROUNDS)])
            taken = best_us(lambda e=encoder, r=rounds: list(e.batches(next(r), 2)), count)  # type: ignore[misc]
            _row(count, name, taken)
        _row(count, "peer: all, by messages", best_us(lambda f=first: by_messages(f), count))  # type: ignore[misc]


def _row(count: int, name: str, taken_us: float) -> None:
    whole_ms = taken_us * count / 1000
    print(f"| {count:,} | {name} | {taken_us:.1f} | {whole_ms:.1f} | {whole_ms / 1e4 * 100:.2f} |")


if __name__ == "__main__":
    table_of_requests()
    table_of_collections()
