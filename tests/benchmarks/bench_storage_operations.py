"""What following operations costs them: throughput with and without, in turn, and each program.

fio writes and fsyncs, every fsync followed; then one task reads 4 KiB blocks directly, one of 64
followed. Each on the machine's own disk, and on a loop device in memory, which no disk is as fast
as: there a read has some ten switches of tasks and no more. A round runs each load without and
with, and without again, so that a drift of the machine shows as a loss that is none. The nanoseconds
are the kernel's statistics of BPF programs, measuring included. Run as root by `make bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import block_device, bpf_statistics, fio, skips

MIB = 1 << 20
TIER = """
import sys
from otel_oom.receivers.storage import calls, operations
sample = dict.fromkeys(calls.NAMES, 1) | {"read": 64, "write": 64, "open": 64, "submit": 64}
running = operations.Operations(operations.Settings(
    stage_s=0.01, total_s=0.02, sample=sample, ring_bytes=1 << 20, max_series=512))
print("ready", flush=True)
sys.stdin.read()
print(running.counters(), file=sys.stderr)
"""
"""The tier with the receiver's defaults, without what it does with reports."""

Load = Callable[[], float]


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    if sentence := skips.root() or skips.storage():
        print(f"skipped: {sentence}")
        return 0
    loads = {
        "fsync, disk": disk_fsyncs,
        "read 1/64, disk": disk_reads,
        "fsync, memory": fsyncs,
        "read 1/64, memory": reads,
    }
    for name, load in loads.items():
        with load(options.seconds) as once:
            once()  # lays out its files
            rounds = [one_round(once) for _ in range(options.rounds)]
            print_loss(name, rounds, programs_ns_each(once, options.seconds))
    return 0


@contextlib.contextmanager
def disk_fsyncs(seconds: float) -> Iterator[Load]:
    """Writes of 4 KiB, each with its fsync, where temporary files are."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        options = {"directory": folder, "rw": "write", "size": "64m", "fsync": 1}
        yield lambda: fio.run(ioengine="psync", runtime=seconds, **options).per_second("write")


@contextlib.contextmanager
def disk_reads(seconds: float) -> Iterator[Load]:
    """Direct reads of 4 KiB at random places of a file, one after the other."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        options = {"directory": folder, "rw": "randread", "size": "512m", "direct": 1}
        yield lambda: fio.run(ioengine="psync", runtime=seconds, **options).per_second("read")


@contextlib.contextmanager
def fsyncs(seconds: float) -> Iterator[Load]:
    """Writes of 4 KiB, each with its fsync, on ext4 with a journal in memory."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        device = stack.enter_context(memory_disk())
        block_device.make_filesystem(device, "ext4")
        stack.enter_context(block_device.mounted(device, pathlib.Path(folder), "noatime"))
        options = {"directory": folder, "rw": "write", "size": "64m", "fsync": 1}
        yield lambda: fio.run(ioengine="psync", runtime=seconds, **options).per_second("write")


@contextlib.contextmanager
def reads(seconds: float) -> Iterator[Load]:
    """Direct reads of 4 KiB at random places, one after the other."""
    with memory_disk() as device:
        options = {"filename": device.path, "rw": "randread", "direct": 1}
        yield lambda: fio.run(ioengine="psync", runtime=seconds, **options).per_second("read")


@contextlib.contextmanager
def memory_disk() -> Iterator[block_device.Device]:
    """A loop device over a file in memory."""
    with block_device.sparse_file(256 * MIB) as backing, block_device.loop(backing) as device:
        yield device


def one_round(load: Load) -> tuple[float, float, float]:
    """Operations a second without, with, and without again."""
    before = load()
    with attached():
        with_ = load()
    return before, with_, load()


def programs_ns_each(load: Load, seconds: float) -> float:
    """Nanoseconds in BPF an operation, with those of everything else on the machine.

    Measured apart: the kernel's statistics read the clock twice a run, which costs as much as a
    small program.
    """
    with bpf_statistics.on(), attached() as process:
        rate = load()
        programs = bpf_statistics.spent(process.pid).values()
        return sum(time_ns for time_ns, _ in programs) / (rate * seconds)


@contextlib.contextmanager
def attached() -> Iterator[subprocess.Popen[str]]:
    """The process that follows operations."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-P", "-c", TIER]
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def print_loss(name: str, rounds: list[tuple[float, float, float]], each_ns: float) -> None:
    """Medians; the loss is of each round, against the mean of its two runs without."""
    losses = [1 - with_ / ((before + after) / 2) for before, with_, after in rounds]
    noise = [1 - after / before for before, _, after in rounds]
    median = statistics.median
    print(
        f"{name:18} {median(before for before, *_ in rounds):8.0f} a second without, "
        f"{median(with_ for _, with_, _ in rounds):8.0f} with: "
        f"loss {median(losses):6.2%} (noise of the two without: {median(noise):6.2%}); "
        f"{each_ns:6.0f} ns of BPF an operation",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
