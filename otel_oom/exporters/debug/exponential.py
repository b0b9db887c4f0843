"""An exponential histogram in a few words: how many, and how long half, most and all took at most.

A bucket tells only between which bounds its values are, so each number is the upper bound of its
bucket: no value is larger than what is printed (opentelemetry-proto, metrics/v1/metrics.proto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from otel_oom.pipeline import text

Point = ExponentialHistogramDataPoint
_QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def words(point: Point, unit: str) -> str:
    """`count 250, p50 ≤ 1.2 ms, p99 ≤ 64.9 ms, max ≤ 70.8 ms`."""
    bounds = list(_bounds(point))
    total = sum(count for _, count in bounds)
    parts = [f"count {point.count}"]
    if total:
        parts += [
            f"{name} ≤ {_number(_at(bounds, q * total), unit)}" for name, q in _QUANTILES.items()
        ]
    return ", ".join(parts)


def _bounds(point: Point) -> Iterator[tuple[float, int]]:
    """Upper bound and count of each bucket that has any, from the lowest on."""
    negative, positive = point.negative, point.positive
    for index, count in reversed(list(enumerate(negative.bucket_counts, negative.offset))):
        if count:
            yield -_power(index, point.scale), count
    if point.zero_count:
        yield point.zero_threshold, point.zero_count
    for index, count in enumerate(positive.bucket_counts, positive.offset):
        if count:
            yield _power(index + 1, point.scale), count


def _power(index: int, scale: int) -> float:
    """The base, 2 to the power of 2^-scale, to the power of the index."""
    try:
        return math.pow(2.0, math.ldexp(index, -scale))
    except OverflowError:
        return math.inf if index > 0 else 0.0


def _at(bounds: list[tuple[float, int]], rank: float) -> float:
    """The bound of the bucket that has the value of this rank."""
    seen = 0
    for bound, count in bounds:
        seen += count
        if seen >= rank:
            return bound
    return bounds[-1][0]


def _number(value: float, unit: str) -> str:
    return text.duration(value) if unit == "s" else f"{value:g} {text.safe(unit)}".rstrip()
