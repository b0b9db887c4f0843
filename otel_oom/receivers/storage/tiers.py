"""What the receiver asks of a tier: of a source of counts and of slow operations.

The block tier sees every block request, the operation tier system calls with all their stages.
Each stands alone; the receiver works with either, or with both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from otel_oom import semconv
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.storage.histogram import Histogram, Key, Series
from otel_oom.receivers.storage.slow import Slow

_NO_SERIES: Mapping[Key, Series] = MappingProxyType({})


class Exemplar(NamedTuple):
    """A slow span as an example of what a histogram has counted."""

    metric: semconv.Metric
    key: Key
    trace_id: bytes
    span_id: bytes
    value_s: float
    unix_ns: int


class Drained(NamedTuple):
    """Slow operations of one turn, as spans and log records, and as they are."""

    batches: Sequence[Batch]
    exemplars: Sequence[Exemplar] = ()
    slow: Sequence[Slow] = ()


class Reading(NamedTuple):
    """All that a tier has counted since it began, or since `forget`.

    A histogram that did not move since the last reading is the same object. Errors are counted
    by key and by the error's name. Of block requests, `series` has all that is counted.
    """

    histograms: Mapping[semconv.Metric, Mapping[Key, Histogram]]
    errors: Mapping[tuple[Key, str], int]
    series: Mapping[Key, Series] = _NO_SERIES


class Tier(Protocol):
    """A source, attached. The ring of slow operations is drained by the event loop."""

    @property
    def name(self) -> str:
        """One word for summaries: `block`, `operations`."""

    @property
    def fd(self) -> int:
        """Readable when `drain` has something."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """What this kernel does not give, each with the reason."""

    def operation(self, number: int) -> str:
        """The name of `Key.operation`."""

    def drain(self) -> Drained | None:
        """Some slow operations, oldest first; None if there are no more."""

    def read(self) -> Reading:
        """The counts now."""

    def forget(self, keys: Iterable[Key]) -> None:
        """Give up series whose cgroup or device is gone; one that comes again begins at 0."""

    def lost(self) -> int:
        """Records and counts that found no room."""

    def describe(self) -> str:
        """How it is attached, on one line."""

    def summary(self) -> list[str]:
        """How its sums stand, a line each."""

    def detach(self) -> None:
        """Stop counting; what was counted can still be read and drained."""

    def close(self) -> None:
        """Detach and let go of everything; safe to call twice."""
