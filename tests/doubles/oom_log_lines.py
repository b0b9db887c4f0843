"""What kernels from 5.10 to 7.x wrote to their logs at real kills: tests/data/kernel_log.

A recording is made by `python tests/kernels/record_log_lines.py` in virtual machines.
"""

from __future__ import annotations

import functools
import gzip
import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from otel_oom.receivers.oom import log_lines
from otel_oom.receivers.oom.log_reports import LoggedKill, Reports

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "data" / "kernel_log"


class Scene(NamedTuple):
    """One scenario: what was done, how far the kernel's counter moved, what the log said."""

    kernel: str
    name: str
    made: dict[str, Any]
    counted: int
    records: list[bytes]


@functools.cache
def scenes() -> tuple[Scene, ...]:
    """All that were recorded."""
    return tuple(scene for path in sorted(FOLDER.glob("*.jsonl.gz")) for scene in _scenes(path))


def _scenes(path: pathlib.Path) -> list[Scene]:
    with gzip.open(path, "rt") as file:
        lines = [json.loads(line) for line in file]
    kernel = path.name.removesuffix(".jsonl.gz")
    return [
        Scene(
            kernel,
            line["scenario"],
            line["made"],
            line["counted"],
            [record.encode("latin-1") for record in line["records"]],
        )
        for line in lines
        if "records" in line
    ]


def scene(kernel: str, name: str) -> Scene:
    """One of them."""
    (found,) = (s for s in scenes() if (s.kernel, s.name) == (kernel, name))
    return found


def told(records: Iterable[bytes], reports: Reports | None = None) -> list[LoggedKill]:
    """The kills that records tell of."""
    reports = reports or Reports()
    taken = (reports.take(log_lines.decode(record)) for record in records)
    return [kill for kill in taken if kill is not None]


def numbered(texts: Iterable[str], first: int = 1, prefix: str = "6,{},1000,-") -> list[bytes]:
    """Lines as the kernel would hand them out."""
    return [f"{prefix.format(first + n)};{text}\n".encode() for n, text in enumerate(texts)]
