"""What telling of asynchronous operations costs: each program, with it and without, in turn.

fio reads 4 KiB blocks of a loop device in memory as fast as it can: one after the other, and eight
at a time by io_uring and by libaio. One of 64 reads is followed, the receiver's default; without
`submit` those of the last two loads are seen by nobody. The nanoseconds are the kernel's statistics
of BPF programs, measuring included. Run as root by `make bench`.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import statistics
import sys
from collections.abc import Mapping

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import block_device, bpf_statistics, fio, skips

from otel_oom.receivers.storage import calls, operations

MIB = 1 << 20
LOADS = {"psync": 1, "io_uring": 8, "libaio": 8}
SAMPLE = dict.fromkeys(calls.NAMES, 1) | dict.fromkeys(("read", "write", "open", "submit"), 64)
COMPLETION = "on_request_complete"


def main() -> int:
    """Print the table: medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    if sentence := skips.root() or skips.storage():
        print(f"skipped: {sentence}")
        return 0
    print("| load | `submit` | ns a completion | ns of BPF a read | reads a second |")
    print("|---|---|---|---|---|")
    with bpf_statistics.on():
        for engine in LOADS:
            print_load(engine, options.rounds, options.seconds)
    return 0


def print_load(engine: str, rounds: int, seconds: float) -> None:
    """A row without, and a row with."""
    found: dict[str, list[tuple[float, float, float]]] = {"without": [], "with": []}
    for _ in range(rounds):
        for which, runs in found.items():
            sample = {**SAMPLE, "submit": 0} if which == "without" else SAMPLE
            runs.append(measured(engine, sample, seconds))
    for which, runs in found.items():
        completion, whole, rate = map(statistics.median, zip(*runs, strict=True))
        print(f"| {engine} | {which} | {completion:.0f} | {whole:.0f} | {rate:.0f} |", flush=True)


def measured(engine: str, sample: Mapping[str, int], seconds: float) -> tuple[float, float, float]:
    """Nanoseconds a completion and of all programs a read, and reads a second."""
    running = operations.Operations(
        operations.Settings(
            stage_s=0.01, total_s=0.02, sample=sample, ring_bytes=1 << 20, max_series=512
        )
    )
    try:
        with (
            block_device.sparse_file(256 * MIB) as file,
            block_device.loop(file) as device,
        ):
            before = bpf_statistics.spent()
            report = fio.run(
                filename=device.path,
                rw="randread",
                direct=1,
                ioengine=engine,
                iodepth=LOADS[engine],
                runtime=seconds,
            )
            after = bpf_statistics.spent()
        done = {number: _difference(before, after, number) for number in after}
        completion = done[_number(running)]
        whole_ns = sum(time_ns for time_ns, _ in done.values())
        rate = report.per_second("read")
        return completion[0] / completion[1], whole_ns / (rate * seconds), rate
    finally:
        running.close()


def _difference(
    before: bpf_statistics.Spent, after: bpf_statistics.Spent, number: int
) -> tuple[int, int]:
    time_ns, runs = before.get(number, (0, 0))
    return after[number][0] - time_ns, after[number][1] - runs


def _number(running: operations.Operations) -> int:
    """The kernel's number of the program at a request's completion."""
    return running._object._fdinfo(COMPLETION, re.compile(rb"prog_id:\s+(\d+)"))


if __name__ == "__main__":
    raise SystemExit(main())
