"""Names the pod, the container and the workload of every record, also of one that has just died.

Options, their defaults and the attributes are those of the collector's processor of this name.
That one knows the containers that run now; a container that was killed for memory is by then the
previous one, or gone. This one takes container and pod from the path of the kernel's cgroup,
remembers every container that a pod had, waits a moment for what is not known yet, and says on
each record how it was matched, or why not.
"""

from __future__ import annotations

import asyncio

from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.component import State, Status
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.processors.k8s_attributes import chunks, cluster, doctor, kills
from otel_oom.processors.k8s_attributes.chunks import Chunk
from otel_oom.processors.k8s_attributes.config import Config
from otel_oom.processors.k8s_attributes.enrich import Enriched, Enricher
from otel_oom.processors.k8s_attributes.holding import Holding
from otel_oom.semconv import Miss


class K8sAttributesProcessor:
    """Enriches resources in the wire form; it owns what waits until that is taken or dropped."""

    def __init__(
        self, settings: component.Settings, config: Config, next_consumer: Consumer
    ) -> None:
        self._settings = settings
        self._next = next_consumer
        self._cluster = cluster.shared(settings.ledger, config)
        self._enricher = Enricher(self._cluster.associator, None, None)
        self._holding = Holding(config.late_timeout, config.late_items)
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False
        settings.ledger.hold(settings.name, lambda signal: self._holding.items[signal])

    async def start(self) -> None:
        """Begin to ask who is who; wait for the answer if the options say so."""
        known = self._cluster
        await known.join(self, self._settings, self._holding.wake)
        if known.source:
            folder = known.config.log_links_folder
            self._enricher = Enricher(known.associator, known.extraction, known.index, folder)
        self._worker = asyncio.create_task(self._work(), name=f"{self._settings.name} late")
        self._settings.report(Status(State.OK, known.describe()))

    async def consume(self, batch: Batch) -> None:
        """Pass on what is known, then keep what may become known in a moment.

        In this order, because until the next consumer has taken its part the whole is the caller's.
        """
        passed, late = self._sorted(batch)
        late_items = sum(items for _, items in late)
        if passed or not late:
            content = b"".join(passed)
            passed_items = batch.items - late_items
            await self._next.consume(Batch(batch.signal, content, passed_items, batch.weight))
        for chunk, items in late:
            self._holding.take(batch.signal, chunk, items, batch.weight)
        if late:
            self._count("k8s_late_items", batch.signal, late_items)
            self._cluster.poke()

    async def shutdown(self) -> None:
        """Let all go that waits; if that is cancelled, the rest is dropped for `shutdown`."""
        self._stopping = True
        worker, self._worker = self._worker, None
        try:
            if worker:
                self._holding.wake(stop=True)
                await worker
        finally:
            for signal, items in (+self._holding.items).items():
                self._settings.ledger.dropped(self._settings.name, signal, items, "shutdown")
            self._holding.items.clear()
            await self._cluster.leave(self)

    def summary(self) -> list[str]:
        """Who was asked, and how that went."""
        return [self._cluster.describe()]

    def _enrich(self, raw: bytes) -> Enriched:
        self._enricher.is_synced = self._cluster.is_synced
        return self._enricher.enrich(raw)

    def _sorted(self, batch: Batch) -> tuple[list[bytes], list[tuple[Chunk, int]]]:
        """What can go at once, in its wire form, and what should wait, with its items."""
        passed: list[bytes] = []
        late: list[tuple[Chunk, int]] = []
        late_items = missed = 0
        for chunk in chunks.read(batch.encoded()):
            enriched = self._enrich(chunk.resource)
            if self._should_wait(batch.signal, enriched, chunk):
                items = chunks.items(batch.signal, chunk)
                if self._holding.has_room(late_items + items):
                    late.append((chunk, items))
                    late_items += items
                    continue
                self._count("k8s_hold_full_items", batch.signal, items)
                enriched = self._enricher.with_miss(enriched, Miss.HOLD_FULL)
            missed += enriched.found.miss is not None
            passed.append(_written(batch.signal, chunk, enriched))
        self._tell(batch.signal, len(passed), missed)
        return passed, late

    def _should_wait(self, signal: Signal, enriched: Enriched, chunk: Chunk) -> bool:
        """Metrics come again, and at the stop there is no time."""
        is_possible = enriched.waits and signal is not Signal.METRICS and not self._stopping
        return is_possible and self._holding.wants(chunk.resource)

    async def _work(self) -> None:
        """Send on what has waited, until the processor stops and nothing is left."""
        is_last = False
        while not is_last:
            await self._holding.changed()
            is_last = self._stopping
            await self._release(flush=is_last)
            if self._holding.items.total():
                self._cluster.poke()

    async def _release(self, *, flush: bool) -> None:
        ledger, name = self._settings.ledger, self._settings.name
        for held, enriched in list(self._holding.ready(self._enrich, flush=flush)):
            self._tell(held.signal, 1, int(enriched.found.miss is not None))
            content = _written(held.signal, held.chunk, enriched)
            batch = Batch(held.signal, content, held.items, held.weight)
            try:
                await accounting.deliver_or_drop(self._next, batch, ledger, name)
            finally:
                self._holding.gone(held)

    def _tell(self, signal: Signal, resources: int, missed: int) -> None:
        if resources > missed:
            self._settings.ledger.count(
                "k8s_resources_matched", self._settings.name, signal, resources - missed
            )
        if missed:
            self._settings.ledger.count("k8s_resources_missed", self._settings.name, signal, missed)

    def _count(self, name: str, signal: Signal, items: int) -> None:
        self._settings.ledger.count(name, self._settings.name, signal, items)


def _written(signal: Signal, chunk: Chunk, enriched: Enriched) -> bytes:
    """A chunk with what is known of its resource and, if there are any, of its kills."""
    named = Chunk(enriched.raw, chunk.below)
    if kills.may_be_in(signal, chunk):
        named = kills.described(signal, named, enriched.identity, enriched.found)
    return chunks.write(named)


FACTORY = component.Factory(
    type_name="k8s_attributes",
    kind=component.Kind.PROCESSOR,
    config=Config,
    create=K8sAttributesProcessor,
    signals=dict.fromkeys(Signal, component.Stability.ALPHA),
    aliases=("k8sattributes",),
    doctor=doctor.checks,
)
