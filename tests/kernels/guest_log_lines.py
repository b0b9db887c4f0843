"""Runs inside the VM: real kills, and what the kernel's log said of each, a JSON line each.

Of each scenario: what was done, how far the kernel's counter moved, and every record of /dev/kmsg
from then, as it was read. `python tests/kernels/record_log_lines.py` keeps them as test data.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any

from doubles import memory_cgroup

MIB = 1 << 20
LONGEST_RECORD = 8192


def plain() -> dict[str, Any]:
    """One process hits its own limit."""
    with memory_cgroup.temporary(32 * MIB, name="plain") as group:
        return {"pids": [memory_cgroup.kill(group)], "cgroup": group.name}


def other_asks() -> dict[str, Any]:
    """A big sleeper dies for a small process's request."""
    with memory_cgroup.temporary(64 * MIB, name="other") as group:
        sleeper = sleeping(group, "adj=1000", "eat=56M")
        trigger = group.hog("comm=small", "eat=10M")
        sleeper.wait()
        trigger.wait()
        return {"pids": [sleeper.pid], "trigger": trigger.pid, "cgroup": group.name}


def ancestor() -> dict[str, Any]:
    """The limit of a pod is hit by its container, whose own is larger."""
    with memory_cgroup.temporary(32 * MIB, name="pod") as pod:
        container = pod.child("container", 64 * MIB)
        pid = memory_cgroup.kill(container)
        return {"pids": [pid], "cgroup": container.name, "limit": pod.name}


def odd_names() -> dict[str, Any]:
    """A name and a cgroup that look like the line they stand in."""
    with memory_cgroup.temporary(32 * MIB, name="a,task=b \\x") as group:
        hog = group.hog(b"comm=\xff\n),pid=1,uid=0", "eat=100M")
        hog.wait()
        return {"pids": [hog.pid], "cgroup": group.name}


def leader_gone() -> dict[str, Any]:
    """The thread-group leader has exited: the log names a thread."""
    with memory_cgroup.temporary(32 * MIB, name="leader") as group:
        hog = group.hog("orphan", "eat=100M")
        hog.wait()
        return {"pids": [hog.pid], "cgroup": group.name}


def whole_group() -> dict[str, Any]:
    """memory.oom.group: a hog and two sleepers, one decision."""
    with memory_cgroup.temporary(64 * MIB, group=True, name="group") as group:
        sleepers = [sleeping(group, "eat=1M") for _ in range(2)]
        processes = [group.hog("eat=100M"), *sleepers]
        for process in processes:
            process.wait()
        return {"pids": [process.pid for process in processes], "cgroup": group.name}


def sysrq() -> dict[str, Any]:
    """The host is short, as far as the kernel is told by sysrq f."""
    with memory_cgroup.temporary(name="host") as group:
        sleeper = sleeping(group, "adj=1000", "eat=40M")
        pathlib.Path("/proc/sysrq-trigger").write_text("f")
        sleeper.wait()
        return {"pids": [sleeper.pid], "cgroup": group.name}


def storm() -> dict[str, Any]:
    """More kills than the kernel reports in full."""
    with memory_cgroup.temporary(8 * MIB, name="storm") as group:
        return {"pids": [memory_cgroup.kill(group) for _ in range(14)], "cgroup": group.name}


def sleeping(group: memory_cgroup.MemoryCgroup, *steps: str) -> subprocess.Popen[bytes]:
    """A hog that has done its steps and sleeps."""
    process = group.hog(*steps, "say=ready", "pause", stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
    return process


def drained(log: int) -> list[str]:
    """Records that are there now, a byte a character."""
    found = []
    while True:
        try:
            found.append(os.read(log, LONGEST_RECORD).decode("latin-1"))
        except BlockingIOError:
            return found


def oom_kill() -> int:
    """The host's counter."""
    lines = pathlib.Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


SCENARIOS: list[Callable[[], dict[str, Any]]] = [
    plain, other_asks, ancestor, odd_names, leader_gone, sysrq,
]  # fmt: skip


def main() -> None:
    """Play all, and print."""
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    with memory_cgroup.temporary() as group:
        version = group.version
    for scenario in [*SCENARIOS, *([whole_group] if version == 2 else []), storm]:
        os.lseek(log, 0, os.SEEK_END)
        before = oom_kill()
        made = scenario()
        line = {"scenario": scenario.__name__, "made": made, "counted": oom_kill() - before}
        print(json.dumps(line | {"records": drained(log)}), flush=True)


print(json.dumps({"release": os.uname().release}), flush=True)
main()
