"""What the attached probes cost everybody else: processes that come and go, signals delivered.

The same work, in turn without and with the probes attached, in one run; the ratio is what
matters. Run as root by `make bench`.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import skips

PROCESSES = 2_000
SIGNALS = 20_000
ROUNDS = 7
HOLDER = """
import sys
from otel_oom.bpf import probe
attached = probe.attach(probe.kernel(), 1 << 20)
print("attached", flush=True)
sys.stdin.read()
"""
"""Holds the probes in a process of its own: loading them here would make our own fork dearer."""


def processes() -> None:
    """Fork a child that exits at once, and wait for it."""
    for _ in range(PROCESSES):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)


def signals() -> None:
    """Deliver a signal to oneself."""
    own, number = os.getpid(), signal.SIGUSR1
    for _ in range(SIGNALS):
        os.kill(own, number)


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock seconds of one go."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextlib.contextmanager
def probes() -> Iterator[None]:
    """Attached for a while."""
    command = [sys.executable, "-P", "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.stdin.close()


def compare(work: Callable[[], None]) -> tuple[float, float]:
    """Medians without and with the probes, taken in turn."""
    without, attached = [], []
    for _ in range(ROUNDS):
        without.append(seconds(work))
        with probes():
            attached.append(seconds(work))
    return statistics.median(without), statistics.median(attached)


def main() -> None:
    """Print the table."""
    if sentence := skips.root():
        print(f"skipped: {sentence}")
        return
    signal.signal(signal.SIGUSR1, lambda *_: None)
    print(f"{'':20}{'without':>12}{'attached':>12}{'ratio':>8}{'added':>14}")
    for name, work, count in (
        ("fork, exit, wait", processes, PROCESSES),
        ("signal to oneself", signals, SIGNALS),
    ):
        without, attached = compare(work)
        added_ns = (attached - without) / count * 1e9
        print(
            f"{name:20}{without / count * 1e6:9.2f} us{attached / count * 1e6:9.2f} us"
            f"{attached / without:8.3f}{added_ns:9.0f} ns each"
        )


if __name__ == "__main__":
    main()
