"""The systemd unit: it is well formed, and the agent lives within what it allows."""

from __future__ import annotations

import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from doubles import as_unit, confined_agent, memory_cgroup

UNIT = pathlib.Path(__file__).parents[2] / "configs" / "systemd" / "otel-oom.service"
MIB = 1 << 20
MOST_EXPOSED = 3.0
"""Of 10, by systemd's own measure."""


@pytest.fixture(autouse=True)
def _systemd() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")


def setting(name: str) -> str:
    """The unit's value of a setting that it has once."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def test_systemd_finds_nothing_wrong_with_it(tmp_path: pathlib.Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/otel-oom", shutil.which("true") or ""))

    verified = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    said = subprocess.check_output(
        ["systemd-analyze", "security", "--offline=true", unit], text=True
    )

    assert (verified.stderr, verified.returncode) == ("", 0)
    told = re.search(r"exposure level for otel-oom.service: ([\d.]+)", said)
    assert told
    assert float(told[1]) < MOST_EXPOSED


def test_what_it_calls_is_what_the_agent_has() -> None:
    commands = re.findall(
        r"^Exec\w+=/usr/bin/otel-oom (\w+) --config", UNIT.read_text(), re.MULTILINE
    )

    assert commands == ["validate", "run"]
    for command in commands:
        subprocess.run(
            [sys.executable, "-P", "-m", "otel_oom", command, "--help"],
            check=True,
            stdout=subprocess.DEVNULL,
        )


@pytest.mark.root
@pytest.mark.parametrize("mode", ["core", "kmsg", "counter"])
def test_the_agent_records_a_real_kill_within_its_limits(mode: str) -> None:
    """As another user, with its capabilities, its system calls, and no way to more of either."""
    names = [name.lower().removeprefix("cap_") for name in setting("AmbientCapabilities").split()]
    assert setting("CapabilityBoundingSet") == setting("AmbientCapabilities")
    confine = [
        *(sys.executable, as_unit.__file__, setting("SystemCallFilter")),
        *confined_agent.as_nobody(*names),
        "--no-new-privs",
    ]
    with (
        confined_agent.shared_folder() as folder,
        memory_cgroup.temporary(32 * MIB) as group,
        confined_agent.started(folder, confine, modes=mode) as agent,
    ):
        agent.wait_until_running()
        hog = group.hog("eat=100M")
        assert hog.wait() == -signal.SIGKILL
        kill = agent.wait_for_kill(group.name, hog.pid)
        status, log = agent.stop(), agent.log()
    assert (status, "Traceback" in log) == (0, False), log
    assert kill["oom.capture.mode"] == mode
