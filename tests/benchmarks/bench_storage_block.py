"""What the block tier costs a request, beside biolatency of libbpf-tools, under the same load.

fio reads a loop device over memory as fast as it gives; without anything attached, with the
tier, and with biolatency, in turn. The nanoseconds are the kernel's own statistics of each BPF
program; they hold the measuring itself, which is what an empty program at the same hook is said
to take: it is in biolatency's number twice, for its two programs. Then the agent's side: its CPU time at 50,000 requests a second.
Run as root by `make bench`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import loop_device, skips

from otel_oom.bpf import libbpf

ROUNDS = 12
RUN_S = 1.5
USER_RUN_S = 60
USER_IOPS = 50_000
DEVICE_MIB = 256
COLLECTION_INTERVAL_S = 10

BLOCK = """
import select, sys, time
from otel_oom.receivers.storage.block import Block
tier = Block(stage_ns=10**7, total_ns=2 * 10**7, max_series=1024, ring_bytes=1 << 20)
due, drained = time.monotonic() + float(sys.argv[1]), 0
while True:
    ready, _, _ = select.select([tier.fd, sys.stdin], [], [], max(0, due - time.monotonic()))
    if sys.stdin in ready:
        break
    if tier.fd in ready:
        drained += len(tier.drain())
    if time.monotonic() >= due:
        tier.read_series()
        due += float(sys.argv[1])
print(drained, flush=True)
"""
"""The tier as the receiver uses it, without what it does with the numbers."""

EMPTY_C = """
int empty(void *ctx) __attribute__((section("tp_btf/block_rq_complete"), used));
int empty(void *ctx) { return 0; }
char licence[] __attribute__((section("license"), used)) = "GPL";
"""
EMPTY = """
import pathlib, subprocess, sys
from otel_oom.bpf import loader
command = ["clang", "-target", "bpf", "-O2", "-g", "-c", "-x", "c", "-", "-o", "-"]
built = subprocess.run(command, input=sys.argv[1].encode(), check=True, capture_output=True).stdout
loader._image = lambda name: built
empty = loader.Object("empty")
empty.load()
empty.attach("empty")
sys.stdin.read()
"""

SETUPS = {
    "nothing": None,
    "an empty program": [sys.executable, "-P", "-c", EMPTY, EMPTY_C],
    "otel-oom": [sys.executable, "-P", "-c", BLOCK, str(COLLECTION_INTERVAL_S)],
    "biolatency": ["biolatency"],
    "biolatency -D -F": ["biolatency", "-D", "-F"],
}


def main() -> None:
    """Print both tables."""
    if sentence := missing():
        print(f"skipped: {sentence}")
        return
    with statistics_on(), device() as path:
        rounds = [{name: measure(command, path) for name, command in SETUPS.items()}
                  for _ in range(ROUNDS)]  # fmt: skip
        print_costs(rounds)
        print_user_side(path)


def missing() -> str | None:
    """What the machine lacks."""
    if sentence := skips.root() or loop_device.unavailable():
        return sentence
    wanted = {"fio": "fio", "biolatency": "libbpf-tools", "clang": "clang"}
    packages = [package for tool, package in wanted.items() if shutil.which(tool) is None]
    return f"needs its peers: apt-get install {' '.join(packages)}" if packages else None


@contextlib.contextmanager
def statistics_on() -> Iterator[None]:
    """The kernel's run-time statistics of BPF programs, for as long as this runs."""
    library = libbpf.library()
    library.bpf_enable_stats.argtypes = [ctypes.c_int]
    fd = library.bpf_enable_stats(0)
    assert fd >= 0, libbpf.error_text()
    yield
    os.close(fd)


@contextlib.contextmanager
def device() -> Iterator[pathlib.Path]:
    """A loop device over a file in memory, filled so that nothing is sparse."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", name], check=True)
        try:
            with loop_device.attached(pathlib.Path(name), DEVICE_MIB) as loop:
                loop.write(loop_device.MIB, DEVICE_MIB)
                yield loop.path
        finally:
            subprocess.run(["umount", name], check=True)


def fio(path: pathlib.Path, seconds: float, *options: str) -> dict[str, Any]:
    """Random direct reads of 4 KiB, 64 at a time; fio's own account of them."""
    command = [
        "fio", "--name=load", f"--filename={path}", "--direct=1", "--rw=randread", "--bs=4k",
        "--ioengine=io_uring", "--iodepth=64", "--time_based", f"--runtime={seconds}",
        "--output-format=json", *options,
    ]  # fmt: skip
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(said[said.index("{") :])["jobs"][0]["read"])


@contextlib.contextmanager
def attached(command: list[str] | None) -> Iterator[subprocess.Popen[bytes] | None]:
    """The process that holds the programs, if any."""
    if command is None:
        yield None
        return
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as process:
        while not programs(process.pid):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            time.sleep(0.1)
        time.sleep(0.5)
        yield process
        process.kill()


def programs(pid: int) -> list[tuple[int, int]]:
    """(nanoseconds, runs) of each BPF program that the process holds."""
    found = []
    for entry in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            lines = entry.read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines if ":" in line)
            if "run_cnt" in fields:
                found.append((int(fields["run_time_ns"]), int(fields["run_cnt"])))
    return found


def measure(command: list[str] | None, path: pathlib.Path) -> tuple[float, float]:
    """Nanoseconds in BPF programs for each request, and requests a second."""
    with attached(command) as holder:
        account = fio(path, RUN_S)
        spent_ns = sum(ns for ns, _ in programs(holder.pid)) if holder else 0
    return spent_ns / account["total_ios"], account["iops"]


def print_costs(rounds: list[dict[str, tuple[float, float]]]) -> None:
    """Medians over the rounds; ratios are of one round each."""
    print(f"{'':18}{'ns/request':>12}{'ratio':>8}{'least ns':>10}{'IOPS':>10}{'IOPS, ratio':>13}")
    for name in SETUPS:
        cost = [each[name][0] for each in rounds]
        ratio = statistics.median(each[name][0] / each["biolatency"][0] for each in rounds)
        iops = statistics.median(each[name][1] for each in rounds)
        kept = statistics.median(each[name][1] / each["nothing"][1] for each in rounds)
        print(f"{name:18}{statistics.median(cost):12.0f}{ratio:8.2f}{min(cost):10.0f}"
              f"{iops:10.0f}{kept:13.3f}")  # fmt: skip


def print_user_side(path: pathlib.Path) -> None:
    """The agent's CPU time while the device does a steady number of requests."""
    with attached(SETUPS["otel-oom"]) as holder:
        assert holder is not None
        before_s = cpu_s(holder.pid)
        account = fio(path, USER_RUN_S, f"--rate_iops={USER_IOPS}")
        spent_s = cpu_s(holder.pid) - before_s
        said, _ = holder.communicate()
    seconds = account["runtime"] / 1000
    print(f"\nagent's side at {account['iops']:.0f} IOPS, series read each "
          f"{COLLECTION_INTERVAL_S} s, {int(said.split()[-1])} slow requests taken: "
          f"{spent_s * 1000:.0f} ms in {seconds:.0f} s, {spent_s / seconds:.2%} of a core")  # fmt: skip


def cpu_s(pid: int) -> float:
    """User and system time of a process, seconds, to the nanosecond of its scheduler."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    main()
