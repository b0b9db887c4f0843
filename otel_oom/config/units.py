"""Durations and sizes: from the text that a user writes, and back.

Durations are Go's (`time.ParseDuration`), because a collector user writes those.
"""

from __future__ import annotations

import re
from decimal import Decimal

_NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek mu; Go reads both
    "ns": 1,
}
_STEP = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_BARE = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
_MAX_NANOSECONDS = (1 << 63) - 1

_BYTES = {"B": 1}
for _power, _letter in enumerate("kMGT", start=1):
    _BYTES[f"{_letter}B"] = 1000**_power
    _BYTES[f"{_letter.upper()}iB"] = 1024**_power
_BYTES["KB"] = 1000
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]+)", re.ASCII)
_MAX_BYTES = (1 << 63) - 1
_MAX_CHARS = 64


def seconds(text: str) -> float:
    """`1h2m3.5s` as seconds; `ValueError` says what is wrong and how to write it."""
    if text == "0":
        return 0.0
    if len(text) > _MAX_CHARS:
        raise ValueError("is no duration; write it like `250ms` or `1m30s`")
    if text.startswith("-"):
        raise ValueError("is negative; a duration is 0 or more")
    if _BARE.fullmatch(text):
        raise ValueError(f"has no unit; write `{text}s` for seconds or `{text}ms` for milliseconds")
    steps = _STEP.findall(text)
    if not steps or "".join(number + unit for number, unit in steps) != text:
        raise ValueError("is no duration; write it like `250ms` or `1m30s`")
    nanoseconds = sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in steps)
    if nanoseconds > _MAX_NANOSECONDS:
        raise ValueError("is longer than 292 years")
    return int(nanoseconds) / 1_000_000_000


def duration_text(duration_s: float) -> str:
    """Seconds as `1h2m3.5s`, `250ms` or `0s`: what `seconds` reads back."""
    nanoseconds = round(duration_s * 1_000_000_000)
    if 0 < nanoseconds < _NANOSECONDS["s"]:
        return _decimal(
            nanoseconds, next(u for u in ("ms", "us", "ns") if nanoseconds >= _NANOSECONDS[u])
        )
    hours, rest = divmod(nanoseconds, _NANOSECONDS["h"])
    minutes, rest = divmod(rest, _NANOSECONDS["m"])
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
    if rest or nanoseconds == 0:
        parts.append(_decimal(rest, "s"))
    return "".join(parts)


def size_bytes(text: str) -> int:
    """`512KiB` as bytes; `ValueError` says what is wrong and how to write it."""
    if text.startswith("-"):
        raise ValueError("is negative; a size is 0 or more")
    match = _SIZE.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if match is None:
        raise ValueError("is no size; write bytes as an integer, or with a unit like `512KiB`")
    number, unit = match.groups()
    if unit not in _BYTES:
        raise ValueError(f"has an unknown unit; write one of {', '.join(_BYTES)}")
    size = Decimal(number) * _BYTES[unit]
    if size != int(size) or size > _MAX_BYTES:
        raise ValueError("is no whole number of bytes below 8 EiB")
    return int(size)


def size_text(size: int) -> str | int:
    """Bytes with the largest binary unit that divides them, e.g. `512KiB`, else as they are."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return size


def _decimal(nanoseconds: int, unit: str) -> str:
    number = Decimal(nanoseconds) / _NANOSECONDS[unit]
    return f"{number.normalize():f}{unit}"
