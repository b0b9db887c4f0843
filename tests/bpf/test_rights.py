"""What the agent needs to be allowed: nothing less will do, and nothing more is asked for."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys

import pytest
from doubles import confined_agent, memory_cgroup

pytestmark = pytest.mark.root

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _nobody_can_run_python() -> None:
    command = [*confined_agent.as_nobody(), sys.executable, "-P", "-m", "otel_oom", "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs setpriv to give up rights: apt-get install util-linux")
    if done.returncode:
        pytest.skip(f"needs an interpreter that every user may run: {done.stderr.strip()[-200:]}")


@pytest.mark.parametrize("capabilities", [(), ("bpf",), ("perfmon",)])
def test_a_user_without_both_capabilities_is_told_what_is_missing(
    capabilities: tuple[str, ...],
) -> None:
    with (
        confined_agent.shared_folder() as folder,
        confined_agent.started(
            folder, confined_agent.as_nobody(*capabilities), modes="core"
        ) as agent,
    ):
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "OOM kills cannot be captured: the process may not load tracing programs" in log
    assert "run it as root, or give it these two capabilities" in log
    assert "Traceback" not in log


def log_is_restricted() -> bool:
    return pathlib.Path("/proc/sys/kernel/dmesg_restrict").read_text() == "1\n"


@pytest.mark.parametrize(
    ("capabilities", "mode"),
    [(("bpf", "perfmon"), "core"), (("syslog",), "kmsg"), ((), "counter")],
    ids=["bpf and perfmon", "syslog", "none"],
)
def test_each_mode_with_exactly_the_capabilities_that_it_needs(
    capabilities: tuple[str, ...], mode: str
) -> None:
    """As the user nobody. A better mode is refused; none misses a real kill."""
    if mode == "counter" and not log_is_restricted():
        pytest.skip("needs a log that not everybody may read: sysctl kernel.dmesg_restrict=1")
    with (
        confined_agent.shared_folder() as folder,
        memory_cgroup.temporary(32 * MIB) as group,
        confined_agent.started(folder, confined_agent.as_nobody(*capabilities)) as agent,
    ):
        agent.wait_until_running()
        hog = group.hog("eat=100M")
        assert hog.wait() == -signal.SIGKILL
        found = agent.wait_for_kill(group.name, hog.pid)
        assert agent.stop() == 0, agent.log()
        log = agent.log()
    assert found["oom.capture.mode"] == mode
    assert f"mode {mode}" in log
    if mode == "counter":
        assert found["oom.missed.reason"] == "counter_mode"
    else:
        assert found["process.pid"] == hog.pid


def test_two_capabilities_are_enough_for_a_real_kill() -> None:
    """As the user nobody, of a process of root: the record is whole, and its books are kept."""
    with (
        confined_agent.shared_folder() as folder,
        memory_cgroup.temporary(32 * MIB) as group,
        confined_agent.started(folder, confined_agent.as_nobody("bpf", "perfmon")) as agent,
    ):
        agent.wait_until_running()
        hog = group.hog("eat=100M", env={"OTEL_SERVICE_NAME": "shop"})
        assert hog.wait() == -signal.SIGKILL
        (kill,) = agent.wait_for_kills(group.name, 1)
        status = agent.stop()
        log = agent.log()
        saved = (folder / "state" / "oom.json").exists()
    assert status == 0, log
    assert kill["process.pid"] == hog.pid
    assert kill["oom.limit.cgroup"] == group.name
    assert kill["oom.exit.confirmed"] is True
    assert kill["oom.victim.memory.anon"] > 16 * MIB
    assert kill["process.environment_variable.OTEL_SERVICE_NAME"] == "shop"
    assert saved
    assert "Traceback" not in log


def test_two_capabilities_are_enough_for_block_requests() -> None:
    """Also where the kernel lacks a type that others have: only more rights may look in modules."""
    code = (
        "from otel_oom.receivers.storage import doctor\n"
        "from otel_oom.receivers.storage.config import Config\n"
        "print(*(f'{c.name}: {c.detail}' for c in doctor.checks(Config()) if c.required and not c.ok))"
    )
    command = [*confined_agent.as_nobody("bpf", "perfmon"), sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr
