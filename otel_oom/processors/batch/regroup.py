"""Joins batches, and cuts one that is too large, without changing the order of the items.

Adjacent items of equal resource and scope end up under one `Resource*`/`Scope*` message, so
that a burst of records from one source carries its resource once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from otel_oom.pipeline.data import MESSAGES, Batch, Signal, count_points

_FIELDS: dict[Signal, tuple[str, str, str]] = {
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
}
"""Names of the three nested lists (opentelemetry-proto, {logs,trace,metrics}/v1)."""


def merge(batches: Sequence[Batch]) -> Batch:
    """Join one or more batches of one signal and weight; the inputs stay as they are."""
    if len(batches) == 1:
        return batches[0]
    writer = _Writer(batches[0].signal)
    for batch in batches:
        for resource, scope, items in _runs(batch):
            writer.extend(resource, scope, items)
    total = sum(batch.items for batch in batches)
    return Batch(batches[0].signal, writer.data, total, batches[0].weight)


def by_weight(batches: Sequence[Batch]) -> Iterator[Sequence[Batch]]:
    """Those of each weight, the heaviest first, each in the order in which they came."""
    heaviest_first = sorted(batches, key=lambda batch: -batch.weight)
    for _, alike in itertools.groupby(heaviest_first, key=lambda batch: batch.weight):
        yield list(alike)


def split(batch: Batch, max_items: int) -> Iterator[Batch]:
    """Cut a batch into batches of `max_items`, of which the last may hold fewer."""
    if batch.items <= max_items:
        yield batch
        return
    writer, room = _Writer(batch.signal), max_items
    for resource, scope, items in _runs(batch):
        rest = items
        while rest:
            piece, rest, count = _cut(batch.signal, rest, room)
            writer.extend(resource, scope, piece)
            room -= count
            if room == 0:
                yield Batch(batch.signal, writer.data, max_items, batch.weight)
                writer, room = _Writer(batch.signal), max_items
    if room < max_items:
        yield Batch(batch.signal, writer.data, max_items - room, batch.weight)


class _Writer:
    """Appends items to one message, opening a resource or a scope only when it changes."""

    def __init__(self, signal: Signal) -> None:
        self._resources, self._scopes, self._items = _FIELDS[signal]
        self.data = MESSAGES[signal]()

    def extend(self, resource: Any, scope: Any, items: Sequence[Any]) -> None:
        own_resource = _last_or_new(getattr(self.data, self._resources), resource, "resource")
        own_scope = _last_or_new(getattr(own_resource, self._scopes), scope, "scope")
        getattr(own_scope, self._items).extend(items)


def _last_or_new(messages: Any, like: Any, head: str) -> Any:
    """Return the last message if it has the head of `like`, else a new one that has."""
    if messages and messages[-1].schema_url == like.schema_url:
        last = messages[-1]
        if getattr(last, head) == getattr(like, head):
            return last
    return messages.add(**{head: getattr(like, head), "schema_url": like.schema_url})


def _runs(batch: Batch) -> Iterator[tuple[Any, Any, Sequence[Any]]]:
    """Walk through (Resource* message, Scope* message, its items) in order."""
    resources, scopes, items = _FIELDS[batch.signal]
    for resource in getattr(batch.data, resources):
        for scope in getattr(resource, scopes):
            yield resource, scope, getattr(scope, items)


def _cut(signal: Signal, items: Sequence[Any], room: int) -> tuple[list[Any], list[Any], int]:
    """Take at most `room` items: (taken, left, how many were taken)."""
    if signal is not Signal.METRICS:
        taken = items[:room]
        return list(taken), list(items[room:]), len(taken)
    points = count_points(items[0])
    if points <= room:
        return [items[0]], list(items[1:]), points
    head, tail = _cut_metric(items[0], room)
    return [head], [tail, *items[1:]], room


def _cut_metric(metric: Metric, room: int) -> tuple[Metric, Metric]:
    """Cut one metric after `room` data points; both parts keep its name, unit and kind."""
    kind: Any = metric.WhichOneof("data")
    head, tail = Metric(), Metric()
    head.CopyFrom(metric)
    tail.CopyFrom(metric)
    del getattr(head, kind).data_points[room:]
    del getattr(tail, kind).data_points[:room]
    return head, tail
