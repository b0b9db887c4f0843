"""What the kernel hides from the receiver, and what the agent then says; the kills are real."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import time

import pytest
from doubles import confined_agent, memory_cgroup
from doubles.memory_cgroup import kill

pytestmark = pytest.mark.root


def mounts_are_ours_to_make() -> None:
    done = subprocess.run(
        [*confined_agent.with_mount_over("/mnt"), "true"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs a mount namespace of its own: run as root with CAP_SYS_ADMIN")


def test_without_tracefs_nothing_is_missing(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    mounts_are_ours_to_make()
    where = [p for p in ("/sys/kernel/tracing", "/sys/kernel/debug") if pathlib.Path(p).is_dir()]
    with confined_agent.started(tmp_path, confined_agent.with_mount_over(*where)) as agent:
        agent.wait_until_running()
        pid = kill(group)
        (told,) = agent.wait_for_kills(group.name, 1)
        assert agent.stop() == 0
    assert told["process.pid"] == pid
    assert told["process.exit.code"] == 128 + signal.SIGKILL


def test_without_btf_the_agent_says_what_to_boot(tmp_path: pathlib.Path) -> None:
    mounts_are_ours_to_make()
    hidden = confined_agent.with_mount_over("/sys/kernel/btf")
    with confined_agent.started(tmp_path, hidden, modes="core") as agent:
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "OOM kills cannot be captured: the kernel has no BTF" in log
    assert "boot a distribution kernel that has it" in log
    assert "Traceback" not in log


def test_without_btf_the_kernels_log_tells(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    """With all modes allowed it starts, says why it is not in the best one, and misses nothing."""
    mounts_are_ours_to_make()
    hidden = confined_agent.with_mount_over("/sys/kernel/btf")
    with confined_agent.started(tmp_path, hidden) as agent:
        agent.wait_until_running()
        pid = kill(group)
        deadline = time.monotonic() + confined_agent.PATIENCE_S
        while not (told := [r for r in agent.records() if r.get("process.pid") == pid]):
            assert time.monotonic() < deadline, agent.log()
            time.sleep(0.02)
        assert agent.stop() == 0, agent.log()
    assert [record["oom.capture.mode"] for record in told] == ["kmsg"]
    assert "mode kmsg" in agent.log()
    assert "core: the kernel has no BTF" in agent.log()


def test_under_lockdown_the_agent_says_what_forbids_it(tmp_path: pathlib.Path) -> None:
    """The file is ours, because a machine cannot be unlocked again; all else is the machine's."""
    (tmp_path / "root/sys/kernel/security").mkdir(parents=True)
    (tmp_path / "root/sys/kernel/btf").symlink_to("/sys/kernel/btf")
    (tmp_path / "root/proc").symlink_to("/proc")
    lockdown = tmp_path / "root/sys/kernel/security/lockdown"
    lockdown.write_text("none integrity [confidentiality]\n")
    with confined_agent.started(tmp_path, root=str(tmp_path / "root"), modes="core") as agent:
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "kernel lockdown is at `confidentiality`" in log
    assert "boot with lockdown=integrity, or without" in log
    assert "Traceback" not in log


def test_a_root_path_that_is_no_root_is_named(tmp_path: pathlib.Path) -> None:
    with confined_agent.started(tmp_path, root=str(tmp_path / "nothing")) as agent:
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "OOM kills cannot be captured" in log
    assert str(tmp_path / "nothing/proc") in log
    assert "Traceback" not in log
