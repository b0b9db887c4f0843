"""One kill whose victim is not the trigger, and what is known of it without any agent."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import time

from doubles import memory_cgroup

LIMIT_BYTES = 64 << 20
"""Of the cgroup in which it works."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """Who died, who asked, and the clock before and after, in Unix nanoseconds."""

    victim: int
    trigger: int
    before_ns: int
    after_ns: int


def kill(group: memory_cgroup.MemoryCgroup) -> Kill:
    """A sleeper dies because a small process asks: the victim is not the trigger.

    The asker wants little beside what the sleeper has: if the sleeper's memory were slow to come
    back, the kernel would kill a second time.
    """
    sleeper = group.hog(
        "comm=sleeper", "adj=900", "eat=56M", "say=ready", "pause", stdout=subprocess.PIPE
    )
    assert sleeper.stdout is not None
    with sleeper.stdout:
        sleeper.stdout.readline()
    before_ns = time.time_ns()
    trigger = group.hog("comm=asker", "eat=10M")
    assert sleeper.wait() == -signal.SIGKILL
    after_ns = time.time_ns()
    memory_cgroup.lived(trigger.wait())
    return Kill(sleeper.pid, trigger.pid, before_ns, after_ns)
