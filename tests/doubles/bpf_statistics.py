"""The kernel's own statistics of BPF programs: how long they ran, how often.

with bpf_statistics.on():
    before = bpf_statistics.spent()
    ...
    after = bpf_statistics.spent()

The kernel reads the clock twice a run for it, which costs as much as a small program. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping

_SETTING = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
_FIELDS = ("prog_id", "run_time_ns", "run_cnt")

Spent = Mapping[int, tuple[int, int]]
"""Nanoseconds and runs, by the kernel's number of the program."""


@contextlib.contextmanager
def on() -> Iterator[None]:
    """Kept, and put back at the end as it was."""
    before = _SETTING.read_text()
    _SETTING.write_text("1")
    try:
        yield
    finally:
        _SETTING.write_text(before)


def spent(pid: int | str = "self") -> Spent:
    """Of all programs that the process holds."""
    found = {}
    for entry in os.scandir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError):
            lines = pathlib.Path(entry.path).read_text().splitlines()
            values = dict(line.split(":", 1) for line in lines if ":" in line)
            if all(field in values for field in _FIELDS):
                number, time_ns, runs = (int(values[field]) for field in _FIELDS)
                found[number] = (time_ns, runs)
    return found
