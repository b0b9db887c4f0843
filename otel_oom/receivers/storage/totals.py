"""What moved since somebody began to look, by device and operation: for `otel-oom top`.

Cgroups come and go, and their series with them. A sum over them would fall whenever one goes, so
it is what each series gained from one look to the next that is summed. A series that nobody moved
costs nothing, and nothing is kept while nobody looks.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from otel_oom import semconv
from otel_oom.receivers.storage import histogram, tiers
from otel_oom.receivers.storage.histogram import Histogram
from otel_oom.receivers.storage.streams import Stream, Streams

_MOST_ROWS = 1024
_TIMES = {
    semconv.METRIC_QUEUE_DURATION: "queue",
    semconv.METRIC_DEVICE_DURATION: "device",
    semconv.METRIC_OPERATION_DURATION: "call",
}


class Times:
    """A histogram that grows by differences."""

    def __init__(self) -> None:
        self._zeros = 0
        self._buckets = [0] * histogram.BUCKETS

    def add(self, now: Histogram, before: Histogram | None) -> None:
        """Add what came since; a series that has less than before has begun again."""
        zeros, gained = now.zeros, list(now.buckets)
        if before is not None:
            since = list(map(operator.sub, now.buckets, before.buckets))
            if now.zeros >= before.zeros and min(since) >= 0:
                zeros, gained = now.zeros - before.zeros, since
        self._zeros += zeros
        self._buckets = list(map(operator.add, self._buckets, gained))

    def data(self) -> dict[str, Any]:
        """For JSON: `counts[0]` is of OTLP's bucket `offset`; empty ones at the ends are left out.

        Of a histogram that is empty, `counts` is.
        """
        filled = list(itertools.compress(range(histogram.BUCKETS), self._buckets))
        first, last = (filled[0], filled[-1] + 1) if filled else (0, 0)
        counts = self._buckets[first:last]
        return {"zeros": self._zeros, "offset": histogram.FIRST_BUCKET + first, "counts": counts}


@dataclasses.dataclass(slots=True)
class Row:
    """Sums of one operation of one device."""

    requests: int = 0
    bytes: int = 0
    times: dict[str, Times] = dataclasses.field(default_factory=dict)


class Totals:
    """Sums since `since_ns`, as of `now_ns`, both on CLOCK_MONOTONIC."""

    def __init__(self, sources: Iterable[tiers.Tier], streams: Streams) -> None:
        self._streams = streams
        self.since_ns = self.now_ns = time.monotonic_ns()
        self._readings = {tier.name: tier.read() for tier in sources}
        self._rows: dict[tuple[str, str, str], Row] = {}

    @property
    def is_full(self) -> bool:
        """Whether it is time to begin anew: devices have come and gone."""
        return len(self._rows) > _MOST_ROWS

    def look(self, sources: Iterable[tiers.Tier]) -> None:
        """Add what moved."""
        self.now_ns = time.monotonic_ns()
        for tier in sources:
            before, now = self._readings[tier.name], tier.read()
            self._add_times(tier, before, now)
            self._add_requests(tier, before, now)
            self._readings[tier.name] = now

    def rows(self) -> Iterator[dict[str, Any]]:
        """For JSON, one for each operation of each device that moved."""
        for (tier, device, name), row in self._rows.items():
            times = {which: found.data() for which, found in row.times.items()}
            yield {
                "tier": tier,
                "device": device,
                "operation": name,
                "requests": row.requests,
                "bytes": row.bytes,
                "times": times,
            }

    def _add_times(self, tier: tiers.Tier, before: tiers.Reading, now: tiers.Reading) -> None:
        for metric, histograms in now.histograms.items():
            earlier: Mapping[histogram.Key, Histogram] = before.histograms.get(metric, {})
            for key, found in histograms.items():
                if found is earlier.get(key):
                    continue
                stream = self._streams.find(tier, metric, key)
                if stream is not None:
                    times = self._row(tier, stream).times.setdefault(_TIMES[metric], Times())
                    times.add(found, earlier.get(key))

    def _add_requests(self, tier: tiers.Tier, before: tiers.Reading, now: tiers.Reading) -> None:
        for key, one in now.series.items():
            earlier = before.series.get(key)
            if one is earlier:
                continue
            had = (0, 0) if earlier is None else (earlier.requests, earlier.bytes)
            if one.requests < had[0]:
                had = (0, 0)  # it has begun again
            stream = self._streams.find(tier, semconv.METRIC_QUEUE_DURATION, key)
            if stream is not None:
                row = self._row(tier, stream)
                row.requests += one.requests - had[0]
                row.bytes += one.bytes - had[1]

    def _row(self, tier: tiers.Tier, stream: Stream) -> Row:
        return self._rows.setdefault((tier.name, stream.device, stream.operation), Row())
