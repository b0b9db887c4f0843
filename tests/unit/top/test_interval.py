"""Rates and quantiles are those of the interval, whatever was counted before it."""

import pytest
from doubles.storage_views import ZERO_S, answer, oom, row, storage, times

from otel_oom.receivers.storage import histogram
from otel_oom.receivers.storage.totals import Times
from otel_oom.top import interval

VIEW = storage(0)


def test_rates_are_of_the_interval():
    before = storage(10, row("block", "vda", "read", 1000, 8_000_000))
    now = storage(12, row("block", "vda", "read", 1500, 12_000_000))

    (found,) = interval.rows(before, now, "rate")

    assert (found.rate, found.bytes_rate) == (250, 2_000_000)


def test_what_did_not_move_is_no_row_and_what_is_new_is_one():
    before = storage(10, row("block", "vda", "read", 7))
    now = storage(11, row("block", "vda", "read", 7), row("block", "vdb", "write", 5))

    assert [(each.device, each.rate) for each in interval.rows(before, now, "rate")] == [("vdb", 5)]


def test_calls_are_counted_by_their_times():
    """Also where the buckets of the two readings begin at different places."""
    before = storage(10, row("operations", "vda", "fsync", call=times(-40, 3)))
    now = storage(12, row("operations", "vda", "fsync", call=times(-48, 9, *[0] * 7, 4, zeros=10)))

    (found,) = interval.rows(before, now, "rate")

    assert found.rate == (9 + 1 + 10) / 2
    assert found.times["call"].p50_s == ZERO_S
    assert found.times["call"].p99_s == 2 ** (-39 / 8)


def test_an_agent_that_began_anew_has_no_interval():
    before = storage(10, row("block", "vda", "read", 7))
    now = storage(12, row("block", "vda", "read", 9), since_ns=11 * 10**9)

    assert interval.rows(before, now, "rate") == []


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("rate", ["b", "a", "c"]),
        ("bytes", ["a", "b", "c"]),
        ("p99", ["c", "a", "b"]),
        ("name", ["a", "b", "c"]),
    ],
)
def test_orders(sort, expected):
    now = storage(
        11,
        row("block", "c", "read", 1, 1, device=times(0, 1)),
        row("block", "a", "read", 5, 900, device=times(-8, 1)),
        row("block", "b", "read", 9, 100, device=times(-16, 1)),
    )

    assert [each.device for each in interval.rows(storage(10), now, sort)] == expected


def test_quantiles_are_the_upper_bound_of_their_bucket():
    """Against the definition: of 100 times, the 50th and the 99th."""
    found = interval.quantiles({None: 49, 8: 1, 16: 49, 24: 1}, VIEW)

    assert found == (2 ** (9 / 8), 2 ** (17 / 8))
    assert interval.quantiles({}, VIEW) == (None, None)


def test_what_the_agent_writes_is_what_is_read():
    counts = [0] * histogram.BUCKETS
    counts[100] = 3
    grown = Times()
    grown.add(histogram.Histogram(1, 2, counts), None)

    (found,) = interval.rows(
        storage(10), storage(11, row("operations", "vda", "read", call=grown.data())), "rate"
    )

    bound_s = 2 ** ((histogram.FIRST_BUCKET + 101) / 2**histogram.SCALE)
    assert (found.rate, *found.times["call"]) == (5, bound_s, bound_s)


def test_views_are_found_by_their_kind():
    found = answer(**{"storage/a": storage(1), "oom": oom()})

    assert list(interval.views(found, "storage")) == ["storage/a"]
