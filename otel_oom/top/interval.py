"""What happened between two answers of the agent: rates and quantiles, by device and operation."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SORTS = ("rate", "bytes", "p99", "name")
STORAGE, OOM = "storage", "oom"
BLOCK = "block"
_NS_PER_S = 10**9


class Quantiles(NamedTuple):
    """In seconds, at most one bucket (9 %) above the truth; None where nothing was measured."""

    p50_s: float | None
    p99_s: float | None


NOTHING = Quantiles(None, None)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One operation of one device over the interval."""

    tier: str
    device: str
    operation: str
    rate: float
    bytes_rate: float
    times: Mapping[str, Quantiles]

    @property
    def p99_s(self) -> float:
        """The longest of its kinds of time, 0 where nothing was measured."""
        return max((each.p99_s or 0.0 for each in self.times.values()), default=0.0)

    def order(self, sort: str) -> tuple[float | str, ...]:
        """What puts it into its place: the greatest first, equals by name."""
        first = {"rate": self.rate, "bytes": self.bytes_rate, "p99": self.p99_s, "name": 0.0}
        return (-first[sort], self.device, self.operation)


def views(answer: Mapping[str, Any], kind: str) -> dict[str, Mapping[str, Any]]:
    """The views of a kind, by the receiver that offers each."""
    return {name: view for name, view in answer["views"].items() if view.get("view") == kind}


def seconds(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The length of the interval of two storage views; 0 if the agent has begun anew between."""
    if before["since_ns"] != now["since_ns"]:
        return 0.0
    return float(now["now_ns"] - before["now_ns"]) / _NS_PER_S


def rows(before: Mapping[str, Any], now: Mapping[str, Any], sort: str) -> list[Row]:
    """All that moved in the interval."""
    length_s = seconds(before, now)
    if length_s <= 0:
        return []
    earlier = {_name(row): row for row in before["rows"]}
    found = (_row(earlier.get(_name(row)), row, now, length_s) for row in now["rows"])
    return sorted((row for row in found if row.rate), key=lambda row: row.order(sort))


def _name(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["tier"], row["device"], row["operation"]


def _row(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], view: Mapping[str, Any], s: float
) -> Row:
    earlier = before["times"] if before else {}
    moved = {which: _since(earlier.get(which), times) for which, times in now["times"].items()}
    requests = now["requests"] - (before["requests"] if before else 0)
    if now["tier"] != BLOCK:
        requests = max((sum(counts.values()) for counts in moved.values()), default=0)
    bytes_ = now["bytes"] - (before["bytes"] if before else 0)
    times = {which: quantiles(counts, view) for which, counts in moved.items()}
    return Row(*_name(now), requests / s, bytes_ / s, times)


def _since(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[int | None, int]:
    """Counts by OTLP's index of their bucket, None for what is too short for any."""
    counts = _counts(now)
    for index, count in (_counts(before) if before else {}).items():
        counts[index] = counts.get(index, 0) - count
    return counts


def _counts(times: Mapping[str, Any]) -> dict[int | None, int]:
    return {None: times["zeros"], **dict(enumerate(times["counts"], times["offset"]))}


def quantiles(counts: Mapping[int | None, int], view: Mapping[str, Any]) -> Quantiles:
    """The median and the 99th percentile: the upper bound of the bucket that each is in."""
    total = sum(counts.values())
    if not total:
        return NOTHING
    a_bucket = 2.0 ** -view["scale"]
    bounds = sorted(
        (view["zero_threshold_s"] if index is None else 2.0 ** ((index + 1) * a_bucket), count)
        for index, count in counts.items()
    )
    return Quantiles(_quantile(bounds, total * 0.5), _quantile(bounds, total * 0.99))


def _quantile(bounds: Sequence[tuple[float, int]], rank: float) -> float:
    """The first bound up to which there are as many as `rank`."""
    sums = itertools.accumulate(count for _, count in bounds)
    return next(
        bound_s for (bound_s, _), so_far in zip(bounds, sums, strict=True) if so_far >= rank
    )
