"""Times as text."""

from __future__ import annotations

from otel_oom.pipeline import text


def test_a_time_is_iso_8601_to_the_millisecond() -> None:
    assert text.iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert text.iso_time(1_700_000_000_999_999_999) == "2023-11-14T22:13:20.999Z"
