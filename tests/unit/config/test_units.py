"""Durations and sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.config import units


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("250ms", 0.25),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("3ns", 3e-9),
        ("1h2m3.5s", 3723.5),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("100ms", 0.1),
    ],
)
def test_a_go_duration_is_read(text: str, expected_s: float) -> None:
    assert units.seconds(text) == expected_s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", "write `5s` for seconds or `5ms`"),
        ("1.5", "has no unit"),
        ("-5s", "is negative"),
        ("5 s", "is no duration"),
        ("5d", "is no duration"),
        ("s", "is no duration"),
        ("", "is no duration"),
        ("1s1", "is no duration"),
        ("٣s", "is no duration"),
        ("9999999h", "longer than 292 years"),
        ("1" * 100 + "s", "is no duration"),
    ],
)
def test_another_text_is_refused_with_a_remedy(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        units.seconds(text)


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (0.0005, "500us"),
        (60, "1m"),
        (3723.5, "1h2m3.5s"),
        (90, "1m30s"),
    ],
)
def test_a_duration_is_written_as_a_person_would(duration_s: float, text: str) -> None:
    assert units.duration_text(duration_s) == text


@given(st.integers(0, 10**15))
def test_every_duration_of_whole_nanoseconds_is_read_back(nanoseconds: int) -> None:
    duration_s = nanoseconds / 1_000_000_000
    assert units.seconds(units.duration_text(duration_s)) == duration_s


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512KiB", 524288),
        ("1MiB", 1048576),
        ("10MB", 10_000_000),
        ("1kB", 1000),
        ("1KB", 1000),
        ("0B", 0),
        ("1.5GiB", 1610612736),
        ("2 TiB", 2 << 40),
    ],
)
def test_a_size_is_read(text: str, expected: int) -> None:
    assert units.size_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", "write bytes as an integer"),
        ("1mb", "unknown unit"),
        ("-1MiB", "is negative"),
        ("1.0001KiB", "no whole number"),
        ("99999999TiB", "no whole number of bytes below 8 EiB"),
        ("MiB", "is no size"),
    ],
)
def test_another_size_is_refused_with_a_remedy(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)):
        units.size_bytes(text)


@given(st.integers(0, (1 << 63) - 1))
def test_every_size_is_read_back(size: int) -> None:
    text = units.size_text(size)
    assert (text if isinstance(text, int) else units.size_bytes(text)) == size
