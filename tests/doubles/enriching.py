"""The processor `k8s_attributes` between a test and a sink, with a source that the test sets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from doubles import cluster_source, sink

from otel_oom.pipeline import data, otlp
from otel_oom.processors import k8s_attributes
from otel_oom.processors.k8s_attributes import sources
from otel_oom.processors.k8s_attributes.config import Config

ID = "a" * 64
UID = "11111111-2222-3333-4444-555555555555"
SLICE = (
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
)


def path(container_id: str = ID) -> str:
    """The cgroup of a container of the pod that `cluster_source.pod` makes."""
    return f"{SLICE}/cri-containerd-{container_id}.scope"


class Bench:
    """What goes in and what comes out; `around` is another's, of whose agent this is."""

    def __init__(self, config: Config, around: sink.Bench | None = None) -> None:
        self.around = around or sink.Bench()
        self.end = sink.Sink(self.around.ledger)
        self.settings = self.around.settings("k8s_attributes")
        self.processor = k8s_attributes.FACTORY.create(self.settings, config, self.end)

    async def consume(self, batch: data.Batch) -> None:
        """Hand it to the processor as a receiver does, which counts what it made."""
        self.around.ledger.produced("test", batch.signal, batch.items)
        await self.processor.consume(batch)

    async def attributes(self, **attributes: otlp.Value) -> dict[str, Any]:
        """The resource's attributes after the processor; `_` in a key stands for a dot."""
        before = len(self.end.batches)
        resource = {key.replace("_", "."): value for key, value in attributes.items()}
        await self.consume(sink.log_batch("a", resource=resource))
        await self.end.wait_for_items(sum(b.items for b in self.end.batches[:before]) + 1)
        return resource_of(self.end.batches[-1])

    async def of_path(self, cgroup: str = "") -> dict[str, Any]:
        """The same of a resource with this cgroup alone."""
        return await self.attributes(process_linux_cgroup=cgroup or path())

    def balance(self, signal: data.Signal = data.Signal.LOGS) -> Any:
        return self.around.ledger.balance(signal)

    def counted(self, name: str) -> int:
        return sum(row[4] for row in self.around.ledger.rows() if row[0] == name)


def resource_of(batch: data.Batch, index: int = 0) -> dict[str, Any]:
    """The attributes of a batch's resource."""
    lists = {"logs": "resource_logs", "traces": "resource_spans", "metrics": "resource_metrics"}
    holder = getattr(batch.data, lists[batch.signal])[index]
    keys = [pair.key for pair in holder.resource.attributes]
    assert len(set(keys)) == len(keys), "a key twice"
    return otlp.attributes(holder.resource.attributes)


def config(**options: Any) -> Config:
    """Options, as a config file has them after its references are expanded."""
    from otel_oom.config import problems, structure, tree

    report = problems.Report(tree.Node(None, tree.Position("")))
    found = structure.structure(options, Config, (), report)
    report.check()
    assert found
    return found


@contextlib.asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch,
    source: cluster_source.Objects | None,
    **options: Any,
) -> AsyncIterator[Bench]:
    """A started processor; it is stopped at the end, and then its sum must close."""

    async def make(*_: object) -> cluster_source.Objects | None:
        return source

    monkeypatch.setattr(sources, "make", make)
    bench = Bench(config(**options))
    await bench.processor.start()
    try:
        await _turns()
        yield bench
    finally:
        await bench.processor.shutdown()
    for signal in data.Signal:
        assert bench.balance(signal).difference == 0, signal
        assert bench.balance(signal).held == 0, signal


async def _turns() -> None:
    """Let the source's task tell its lists."""
    import asyncio

    for _ in range(3):
        await asyncio.sleep(0)
