"""Records through the processor `k8s_attributes`, all of them matched, beside plain protobuf.

A node of 110 pods with two containers each; batches of 128 records of 16 containers, each batch of
others. *Storage* are log records of slow operations, of which the resource alone is changed;
*kills* are those of OOM kills, which get attributes of their own. *Churn* is the same while a pod
changes before each batch. The peer in the same run does the same to the resource with protobuf's
messages: it parses the batch, adds as many attributes to each resource, and writes it. Memory is
what the index takes beside the objects themselves. Run by `make bench`.
"""

from __future__ import annotations

import asyncio
import itertools
import pathlib
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import cluster_source as objects
from doubles import oom_ring, sink
from doubles import storage_told as told
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom.kubernetes.objects import Pod
from otel_oom.kubernetes.source import Kind
from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.processors import k8s_attributes
from otel_oom.processors.k8s_attributes import chunks, sources
from otel_oom.processors.k8s_attributes.config import Config
from otel_oom.processors.k8s_attributes.index import Index

PODS, BATCHES, ITEMS, RESOURCES, ROUNDS = 110, 64, 128, 16, 9
ADDED = [otlp.key_value(f"k8s.attribute.{n}", "a value of usual length") for n in range(12)]


def pod(number: int, state: int = 0) -> Pod:
    """A pod with two containers and labels; of another state it has another version."""
    uid = f"00000000-0000-0000-0000-{number:012x}"
    return objects.pod(
        f"web-{number}",
        uid=uid,
        ip=f"10.0.{number // 250}.{number % 250}",
        containers={"app": f"{2 * number:064x}", "side": f"{2 * number + 1:064x}"},
        metadata={"labels": {"app": "web"}, "resourceVersion": str(state)},
    )


def cgroup(number: int) -> str:
    """Of container `number` of all, in the spelling of systemd's driver."""
    uid = f"00000000_0000_0000_0000_{number // 2:012x}"
    slice_ = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice"
    return f"{slice_}/cri-containerd-{number:064x}.scope"


def moved(content: bytes, numbers: Iterator[int]) -> bytes:
    """A batch whose resources are of other containers."""
    found = []
    for chunk, number in zip(chunks.read(content), numbers, strict=False):
        pair = otlp.key_value("process.linux.cgroup", cgroup(number))
        message = LogsData()
        message.resource_logs.add().resource.attributes.append(pair)
        resource = message.resource_logs[0].resource.SerializeToString()
        found.append(chunks.write(chunks.Chunk(resource, chunk.below)))
    return b"".join(found)


def kills() -> bytes:
    """Log records of kills of 16 cgroups."""
    found = oom_ring.assembled(oom_ring.many(ITEMS))
    return oom_ring.encoder().logs(found, oom_ring.BOOT_TO_UNIX_NS, oom_ring.NOW_NS).encoded()


def storage() -> bytes:
    """Log records of slow reads of 16 cgroups."""
    encoder = told.encoder(cgroup_path=lambda number: f"/c{number}")
    (slow,) = told.slows([told.variants()["read"]])
    slows = [slow._replace(cgroup_id=number % RESOURCES + 1) for number in range(ITEMS)]
    return encoder.batches(slows, told.TO_UNIX_NS, told.NOW_NS)[0].encoded()


def peer(contents: list[bytes]) -> None:
    """Parse, add, write."""
    for content in contents:
        message = LogsData.FromString(content)
        for holder in message.resource_logs:
            holder.resource.attributes.extend(ADDED)
        message.SerializeToString()


async def best_us(work: Callable[[], object]) -> float:
    """CPU microseconds a record in the best round."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        result = work()
        if asyncio.iscoroutine(result):
            await result
        times.append(time.process_time() - start)
    return min(times) / (BATCHES * ITEMS) * 1e6


class Nowhere:
    """Takes batches and forgets them; `sees` is whether it looks if all of it is matched."""

    sees = True

    async def consume(self, batch: Batch) -> None:
        if self.sees:
            assert b"container_id" in batch.encoded()
            assert b"k8s.miss" not in batch.encoded()


async def rows(name: str, content: bytes, processor: object, source: objects.Objects) -> None:
    """Measure one kind of record."""
    numbers = itertools.cycle(range(2 * PODS))
    contents = [moved(content, numbers) for _ in range(BATCHES)]

    async def through(*, churn: bool = False) -> None:
        for state, each in enumerate(contents):
            if churn:
                source.put(Kind.POD, pod(state % PODS, state + 1))
            await processor.consume(Batch(Signal.LOGS, each, ITEMS))  # type: ignore[attr-defined]

    Nowhere.sees = True
    await through()
    Nowhere.sees = False
    found = [
        (f"{name}", await best_us(through)),
        (f"{name}, churn", await best_us(lambda: through(churn=True))),
        (f"{name}, peer: protobuf", await best_us(lambda: peer(contents))),
    ]
    for label, taken in found:
        print(f"| {label} | {taken:.2f} | {1e6 / taken:,.0f} | {taken / found[-1][1]:.2f} |")


def index_kib(count: int = 1000) -> tuple[float, float]:
    """KiB that so many pods take: the objects, and the index beside them."""
    tracemalloc.start()
    pods = [pod(number) for number in range(count)]
    before = tracemalloc.get_traced_memory()[0]
    index = Index(time.monotonic)
    index.replace(Kind.POD, pods)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert index.pods == count
    return before / 1024, (after - before) / 1024


async def main() -> None:
    """Print the tables."""
    source = objects.Objects(*map(pod, range(PODS)))

    async def make(*_: object) -> objects.Objects:
        return source

    sources.make = make
    bench = sink.Bench()
    processor = k8s_attributes.FACTORY.create(bench.settings("k8s"), Config(), Nowhere())
    await processor.start()
    await asyncio.sleep(0)
    print("|  | us a record | records/s | ratio to the peer |")
    print("|---|---:|---:|---:|")
    await rows("storage", storage(), processor, source)
    await rows("kills", kills(), processor, source)
    await processor.shutdown()
    held, beside = index_kib()
    print(f"\n1,000 pods: objects {held:,.0f} KiB, the index beside them {beside:,.0f} KiB")


if __name__ == "__main__":
    asyncio.run(main())
