"""The line that a person reads."""

from __future__ import annotations

from doubles import oom_ring

from otel_oom.receivers.oom import body

KILLS = oom_ring.variants()


def test_a_body_is_one_printable_line_whatever_the_names_hold() -> None:
    ring, context = KILLS["names odd"]
    (kill,) = oom_ring.assembled(ring, context)
    line = body.line(kill)
    assert not any(char < " " or char == "\x7f" for char in line)
    assert "a\\x0ab\\x1b[1m" in line
