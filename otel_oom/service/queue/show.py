"""What is in the queues, as a table for a person."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otel_oom.config import units
from otel_oom.pipeline.text import safe

_WAITING = ("queue", "weight", "signal", "requests", "items", "bytes", "oldest")
_DEAD = ("queue", "signal", "requests", "items", "bytes", "last refused", "reason")
_NS = 1_000_000_000


def lines(storages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The storages one after the other: what waits, and what was refused for good."""
    for name, found in storages.items():
        how = "its agent runs" if found["is_running"] else "no agent runs"
        yield f"{name} in {safe(found['directory'])}: {how}"
        yield from _table(_WAITING, [_waiting(row) for row in found["waiting"]], "nothing waits")
        yield from _table(_DEAD, [_dead(row) for row in found["dead"]], "no dead letters")


def _waiting(row: Mapping[str, Any]) -> list[str]:
    numbers = [f"{row[key]}" for key in ("requests", "items", "bytes")]
    return [safe(row["queue"]), f"{row['weight']}", row["signal"], *numbers, _age(row["oldest_ns"])]


def _dead(row: Mapping[str, Any]) -> list[str]:
    numbers = [f"{row[key]}" for key in ("requests", "items", "bytes")]
    return [
        safe(row["queue"]),
        row["signal"],
        *numbers,
        _age(row["newest_ns"]),
        safe(row["reason"]),
    ]


def _age(at_ns: int | None) -> str:
    """How long ago, by this host's clock; one that was set back makes it no less than 0."""
    if not at_ns:
        return "?"
    return f"{units.duration_text(float(max(0, time.time_ns() - at_ns) // _NS))} ago"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> Iterator[str]:
    if not rows:
        yield f"  {nothing}"
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
