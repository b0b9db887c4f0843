"""Quantiles of exponential histograms: no value is larger than what is printed."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint

from otel_oom.exporters.debug import exponential
from otel_oom.pipeline import text


def point(values, scale=3, zero_threshold=2.0**-22):
    """The histogram of positive values, by the definition of the buckets."""
    found = ExponentialHistogramDataPoint(count=len(values), scale=scale)
    found.zero_threshold = zero_threshold
    indexes = []
    for value in values:
        if value <= zero_threshold:
            found.zero_count += 1
        else:
            indexes.append(math.ceil(math.log2(value) * 2**scale) - 1)
    if indexes:
        found.positive.offset = min(indexes)
        counts = [indexes.count(i) for i in range(min(indexes), max(indexes) + 1)]
        found.positive.bucket_counts.extend(counts)
    return found


def bounds(found):
    """The three numbers as seconds."""
    said = exponential.words(found, "").split(", ")
    return [float(part.partition("≤ ")[2]) for part in said[1:]]


@settings(deadline=None)
@given(st.lists(st.floats(1e-9, 100), min_size=1, max_size=50))
def test_each_bound_is_at_most_a_bucket_above_the_true_value(values):
    ordered = sorted(values)
    found = bounds(point(values))

    for bound, quantile in zip(found, (0.5, 0.99, 1), strict=True):
        true = ordered[max(0, math.ceil(quantile * len(values)) - 1)]
        assert true <= bound * (1 + 1e-4)  # of the six digits that are printed
        assert bound <= max(true * 2 ** (1 / 8), 2.0**-22) * (1 + 1e-4)


def test_zeros_and_negative_values_are_in_their_order():
    found = ExponentialHistogramDataPoint(count=4, scale=0, zero_count=1)
    found.negative.bucket_counts.append(2)  # -2 to -1
    found.positive.bucket_counts.append(1)  # 1 to 2

    assert bounds(found) == [-1, 2, 2]


def test_an_empty_one_has_no_quantiles():
    assert exponential.words(ExponentialHistogramDataPoint(), "s") == "count 0"


@pytest.mark.parametrize("scale", [-(2**31), -40, 2**31 - 1])
def test_no_scale_is_too_much(scale):
    found = ExponentialHistogramDataPoint(count=1, scale=scale)
    found.positive.offset = 5
    found.positive.bucket_counts.append(1)

    assert exponential.words(found, "s").startswith("count 1, p50 ≤ ")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ns"),
        (2.0**-22, "238 ns"),
        (0.0000012, "1.2 µs"),
        (0.0649, "64.9 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (1.25, "1.25 s"),
        (86400, "86400 s"),
    ],
)
def test_durations_are_in_three_digits(seconds, shown):
    assert text.duration(seconds) == shown
