"""A batch in its wire form, cut at its resources: what is below them is copied, not read.

`LogsData`, `TracesData` and `MetricsData` have a list of messages as field 1, and each of those a
`Resource` as field 1 (opentelemetry-proto, {logs,trace,metrics}/v1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from otel_oom.pipeline.data import MESSAGES, Signal, count_items
from otel_oom.pipeline.otlp import wire

_LIST, _RESOURCE = 1, 1


class Chunk(NamedTuple):
    """One resource and what is of it: `below` is its scopes, in the wire form."""

    resource: bytes
    below: bytes


def read(content: bytes) -> Iterator[Chunk]:
    """The resources of a batch."""
    for number, _, start, end in wire.fields(content):
        if number == _LIST:
            yield _chunk(content, start, end)


def _chunk(content: bytes, start: int, end: int) -> Chunk:
    resource, below, at = b"", b"", start
    for number, tag, begin, after in wire.fields(content, start, end):
        if number == _RESOURCE:
            resource += content[begin:after]
            below += content[at:tag]
            at = after
    return Chunk(resource, below + content[at:end])


def write(chunk: Chunk) -> bytes:
    """The chunk as an element of the batch's list."""
    return wire.message(_LIST, wire.message(_RESOURCE, chunk.resource) + chunk.below)


def items(signal: Signal, chunk: Chunk) -> int:
    """Log records, spans or data points in a chunk."""
    return count_items(MESSAGES[signal].FromString(wire.message(_LIST, chunk.below)))
