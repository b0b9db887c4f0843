"""Runs asynchronous.c: reads or writes by io_uring or libaio, several with each system call.

    for batch in asynchronous.run("io_uring", "read", device.path, batches=5, depth=8):
        batch.tid, batch.start_ns, batch.submitted_ns, batch.end_ns

The program is compiled at first use.
"""

from __future__ import annotations

import pathlib
import subprocess
from typing import NamedTuple

from doubles import compiled

ENGINES = ("libaio", "io_uring")


class Batch(NamedTuple):
    """What one system call submitted; times are of CLOCK_MONOTONIC.

    The call is between `start_ns` and `submitted_ns`; all results were there at `end_ns`.
    """

    tid: int
    start_ns: int
    submitted_ns: int
    end_ns: int


def run(
    engine: str, name: str, path: pathlib.Path, *, batches: int, depth: int = 1, bytes_: int = 4096
) -> list[Batch]:
    """All batches, one after the other. `engine` may also be `thread`: of libaio, one a batch."""
    numbers = [str(batches), str(depth), str(bytes_)]
    command = [str(compiled.binary("asynchronous")), engine, name, str(path), *numbers]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    return [Batch(*map(int, line.split())) for line in told.splitlines()]
