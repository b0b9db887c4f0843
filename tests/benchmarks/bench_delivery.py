"""10,000 log records a second through a queue on a disk: CPU and memory beside the real collector.

Each side takes the same requests over OTLP/HTTP from the same sender, reads them, keeps them in its
`file_storage`, answers, and sends them over OTLP/gRPC with gzip to the same sink, which counts each record
by its number. The agent has no receiver of OTLP, so it is given one for this (doubles/otlp_feed.py): what both
do is the same, from the first byte to the last. Sender and sink are processes of their own, whose CPU
counts for neither. It fails if a record is missing. Needs Go for the collector. Run by `make bench`;
`--minutes 0.5 --rounds 2` is a short form, in which the sides come in turn twice.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import pathlib
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import delivery_load, delivery_sides, delivery_sink, real_collector, skips

MIB = 1 << 20
REQUEST_RECORDS = 100
SAMPLE_S = 1.0
DRAIN_S = 300.0
WARM = 0.2
"""Part of a run that is left out of the slope: pools and caches fill."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident memory: all, and what is the process's own, without pages of files."""

    all_mib: float
    own_mib: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Of a process, now (proc(5), status)."""
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        found = (re.search(rf"{key}:\s+(\d+) kB", text) for key in ("VmRSS", "RssAnon"))
        return cls(*(int(match[1]) / 1024 for match in found if match))


@dataclasses.dataclass
class Watched:
    """What a process used while it was watched."""

    cpu_s: float = 0.0
    written_mib: float = 0.0
    memory: list[Memory] = dataclasses.field(default_factory=list)
    at_s: list[float] = dataclasses.field(default_factory=list)

    def slope_mib(self) -> float:
        """Growth of its own memory a minute, of a line through what is after the warm-up."""
        first = int(len(self.at_s) * WARM)
        if len(self.at_s) - first < 2:
            return 0.0
        own_mib = [memory.own_mib for memory in self.memory[first:]]
        return statistics.linear_regression(self.at_s[first:], own_mib).slope * 60


@dataclasses.dataclass(frozen=True)
class Run:
    """One side, once."""

    side: str
    sent: delivery_load.Sent
    got: delivery_sink.Counts
    drain_s: float
    used: Watched


def cpu_s(pid: int) -> float:
    """Time on a CPU so far, by the clock that clock_getcpuclockid(3) makes of a pid."""
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e9


def written_mib(pid: int) -> float:
    """What it made the kernel write to disks (proc(5), io)."""
    text = pathlib.Path(f"/proc/{pid}/io").read_text()
    return int(text.partition("\nwrite_bytes: ")[2].split()[0]) / MIB


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Watched]:
    """Watch a process; the figures are whole at the end of the block."""
    used = Watched(-cpu_s(pid), -written_mib(pid), [Memory.of(pid)], [0.0])
    ended = threading.Event()
    began_s = time.monotonic()

    def sample() -> None:
        while not ended.wait(SAMPLE_S):
            used.at_s.append(time.monotonic() - began_s)
            used.memory.append(Memory.of(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield used
    finally:
        ended.set()
        sampler.join()
        used.cpu_s += cpu_s(pid)
        used.written_mib += written_mib(pid)


def measure(
    name: str,
    begin: delivery_sides.Side,
    template: delivery_load.Template,
    records: int,
    rate: float,
) -> Run:
    """One side, from its first request until the sink has all."""
    [port] = real_collector.free_ports(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        delivery_sink.running(port, records) as sink,
        begin(pathlib.Path(folder), port) as side,
    ):
        with watched(side.pid) as used:
            sent = delivery_load.Load(side.port, template, rate).send(records)
            drain_s = until_all(sink, sent.records)
        got = sink.counts()
    if side.stopped and (
        side.stopped.status or not side.stopped.sums["logs"]["delivered"] == records
    ):
        raise SystemExit(side.stopped.stderr)
    return Run(name, sent, got, drain_s, used)


def until_all(sink: delivery_sink.Sink, records: int) -> float:
    """Wait until the sink has so many different records; how long that took."""
    began_s = time.monotonic()
    while sink.counts().different < records:
        if time.monotonic() - began_s > DRAIN_S:
            raise SystemExit(f"{sink.counts()} of {records} after {DRAIN_S:g} s")
        time.sleep(0.1)
    return time.monotonic() - began_s


def row(run: Run, first: Run) -> str:
    """A line of the table; the ratio is to the agent with the same promise."""
    used, records = run.used, run.sent.records
    per_record_us = used.cpu_s / records * 1e6
    lost, twice = records - run.got.different, run.got.records - run.got.different
    own_mib = [memory.own_mib for memory in used.memory]
    return (
        f"| {run.side} | {records:,} | {run.sent.rate:,.0f} | {run.sent.refused} | {lost} | {twice} "
        f"| {run.drain_s:.1f} | {used.cpu_s:.1f} | {per_record_us:.1f} "
        f"| {used.cpu_s / first.used.cpu_s:.2f} | {own_mib[0]:.1f} | {max(own_mib):.1f} | {own_mib[-1]:.1f} "
        f"| {used.slope_mib():+.2f} | {used.memory[-1].all_mib:.1f} "
        f"| {used.written_mib / records * MIB:,.0f} |"
    )


HEAD = (
    "| | records | a second | refused | lost | twice | drained after, s | CPU, s | CPU a record, us "
    "| ratio | own memory first, MiB | most | last | growth a minute | RSS last, MiB | bytes to disk a record |"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0, help="of each side and round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=10_000.0, help="records a second")
    promises = range(len(delivery_sides.PAIRS))
    parser.add_argument("--promise", type=int, choices=promises, help="0: on the disk; 1: written")
    options, _ = parser.parse_known_args()
    if sentence := skips.go():
        print(f"left out: {sentence}")
        return
    template = delivery_load.Template(REQUEST_RECORDS)
    requests = round(options.minutes * 60 * options.rate / template.records)
    print(
        f"{options.rate:,.0f} records a second for {options.minutes:g} min, {template.records} records of "
        f"{template.bytes / template.records:.0f} bytes a request, {os.cpu_count()} cores\n\n{HEAD}"
    )
    print("|---" + "|---:" * 15 + "|", flush=True)
    for _ in range(options.rounds):
        for promise, pair in enumerate(delivery_sides.PAIRS):
            if options.promise not in (None, promise):
                continue
            first: Run | None = None
            for name, side in pair.items():
                run = measure(name, side, template, requests * template.records, options.rate)
                first = first or run
                print(row(run, first), flush=True)


if __name__ == "__main__":
    main()
