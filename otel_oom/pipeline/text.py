"""Small pieces of readable text: safe strings, sizes, times.

Strings come from the kernel, where a process may call itself anything: nothing that a terminal
would obey may reach it.
"""

from __future__ import annotations

import datetime as dt
import functools

_KIB = 1024
_MOST_KEPT = 1024


def safe(text: str) -> str:
    r"""Escape every character that is not printable: newlines, ESC, bidirectional marks...

    A backslash is doubled, so that what is an escape of ours cannot be forged.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(character) for character in text)


def size(count_bytes: float) -> str:
    """Bytes for a person, in binary units: `512 B`, `1.5 MiB`."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < _KIB or unit == "TiB":
            break
        value /= _KIB
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time for a person, in three digits: `870 ns`, `64.9 ms`, `1.25 s`."""
    for unit, factor in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if abs(seconds) * factor < 999.5:  # noqa: PLR2004
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s" if abs(seconds) < 999.5 else f"{seconds:.0f} s"  # noqa: PLR2004


def time(unix_ns: int, zone: dt.tzinfo | None = None) -> str:
    """Unix nanoseconds as ISO 8601 with milliseconds; the local zone unless another is given."""
    seconds, rest_ns = divmod(unix_ns, 1_000_000_000)
    try:
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone(zone)
    except (ValueError, OverflowError, OSError):
        return f"{unix_ns} ns"
    moment = moment.replace(microsecond=rest_ns // 1000)
    return moment.isoformat(sep=" ", timespec="milliseconds")


def iso_time(unix_ns: int) -> str:
    """Unix nanoseconds as ISO 8601 in UTC, with milliseconds and a `Z`: for machines."""
    seconds, rest_ns = divmod(unix_ns, 1_000_000_000)
    return f"{_iso_second(seconds)}.{rest_ns // 1_000_000:03}Z"


@functools.lru_cache(_MOST_KEPT)
def _iso_second(unix_s: int) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
