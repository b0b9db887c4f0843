"""Runs inside the VM of bench_peers.py: one tool after the other, each told by a JSON line.

A tool is ready when it sees a kill, not when it says so: kills are made until the first is told.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable

from doubles import memory_cgroup

MIB = 1 << 20
PATIENCE_S = 240.0
PAUSE_S = 0.5  # between kills, which take the one CPU from what is measured
TOOLS = {
    "bcc oomkill": (["/usr/sbin/oomkill-bpfcc"], "Triggered by PID"),
    "otel-oom": (
        ["/usr/bin/python3", "-m", "otel_oom", "run", "--config", "agent.yaml"],
        "OOM: killed",
    ),
}


def status_kib(pid: int, key: str) -> int:
    """A line of /proc/PID/status, in KiB."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def reader(source: object, lines: list[str]) -> Callable[[], None]:
    """Collect the lines of a stream, so that the tool never waits for us."""
    return lambda: lines.extend(source)  # type: ignore[arg-type, call-overload]


def measure(name: str, command: list[str], sign: str) -> dict[str, object]:
    """Start the tool, make kills until it tells of one, then read its memory."""
    start = time.monotonic()
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    threading.Thread(target=reader(tool.stdout, lines), daemon=True).start()
    with memory_cgroup.temporary(16 * MIB) as group:
        while not any(sign in line for line in lines):
            if tool.poll() is not None or time.monotonic() - start > PATIENCE_S:
                return {"tool": name, "error": "".join(lines)[-2000:]}
            group.hog("eat=32M").wait()
            time.sleep(PAUSE_S)
    told = {
        "tool": name,
        "ready_s": round(time.monotonic() - start, 2),
        "peak_kib": status_kib(tool.pid, "VmHWM"),
        "resident_kib": status_kib(tool.pid, "VmRSS"),
    }
    tool.terminate()
    tool.wait()
    return told


def main() -> None:
    pathlib.Path("/proc/sys/kernel/printk").write_text("1")  # a kill's report is slow to print
    subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False)
    for name, (command, sign) in TOOLS.items():
        print(json.dumps(measure(name, command, sign)), flush=True)


main()
