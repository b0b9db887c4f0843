"""The means of the OOM tests work: the kernel really kills, and it kills the one that is meant."""

from __future__ import annotations

import pathlib
import signal
import subprocess

import pytest
from doubles import memory_cgroup

pytestmark = pytest.mark.root

MIB = 1 << 20


def test_a_process_over_the_limit_is_killed_and_counted() -> None:
    with memory_cgroup.temporary(32 * MIB) as group:
        assert group.hog("eat=64M").wait() == -signal.SIGKILL
        assert group.oom_kills() == 1


def test_the_victim_need_not_be_the_trigger() -> None:
    with memory_cgroup.temporary(64 * MIB) as group:
        victim = group.hog("adj=1000", "eat=56M", "say=full", "pause", stdout=subprocess.PIPE)
        assert victim.stdout is not None
        victim.stdout.readline()

        trigger = group.hog("eat=10M")

        memory_cgroup.lived(trigger.wait())
        assert victim.wait() == -signal.SIGKILL
        victim.stdout.close()


def test_a_parents_limit_kills_in_its_child() -> None:
    with memory_cgroup.temporary(32 * MIB) as parent:
        child = parent.child("child", 128 * MIB)

        assert child.hog("eat=64M").wait() == -signal.SIGKILL
        assert child.oom_kills() == 1


def test_the_group_leader_may_exit_before_its_thread_is_killed() -> None:
    with memory_cgroup.temporary(32 * MIB) as group:
        assert group.hog("orphan", "eat=64M").wait() == -signal.SIGKILL


def test_comm_and_argv_may_be_any_bytes() -> None:
    name = b"\xff\x1b[31m\n"
    with memory_cgroup.temporary() as group:
        hog = group.hog(
            b"argv0=" + name, b"comm=" + name, "say=named", "pause", stdout=subprocess.PIPE
        )
        assert hog.stdout is not None
        hog.stdout.readline()
        proc = pathlib.Path("/proc") / str(hog.pid)

        assert (proc / "comm").read_bytes() == name + b"\n"
        assert (proc / "cmdline").read_bytes().startswith(name + b"\0")
        hog.stdout.close()
    assert hog.wait() == -signal.SIGKILL


def test_the_cgroup_is_gone_afterwards_with_all_that_ran_in_it() -> None:
    with memory_cgroup.temporary() as group:
        child = group.child("below")
        hog = child.hog("fork=2", "pause")
        assert child.pids()

    assert not group.path.exists()
    assert hog.wait() == -signal.SIGKILL
