"""Runs inside the VM: a real OOM kill in a memory cgroup, told as one line of JSON."""

import json
import os
import pathlib
import subprocess

from doubles import memory_cgroup

MIB = 1 << 20


def kill(group: memory_cgroup.MemoryCgroup) -> dict[str, object]:
    """A big sleeping victim and a small trigger, which lives."""
    victim = group.hog("adj=1000", "eat=56M", "say=ready", "pause", stdout=subprocess.PIPE)
    victim.stdout.readline()
    trigger = group.hog("eat=10M")
    return {
        "release": os.uname().release,
        "btf": pathlib.Path("/sys/kernel/btf/vmlinux").exists(),
        "memory_cgroup": group.version,
        "victim": victim.wait(),
        "trigger": trigger.wait(),
        "oom_kill": group.oom_kills(),
    }


with memory_cgroup.temporary(64 * MIB) as made:
    print(json.dumps(kill(made)))
