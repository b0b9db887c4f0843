"""The kernel marks a process that is dying anyway, and kills nobody: told, and told apart."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import subprocess

import pytest
from doubles import freezer, memory_cgroup, oom_capture

pytestmark = pytest.mark.root

MIB = 1 << 20


async def test_a_process_that_somebody_else_killed_is_no_kill(tmp_path: pathlib.Path) -> None:
    """It stands still with its SIGKILL when the kernel chooses it, and is let die."""
    with memory_cgroup.temporary(64 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            sleeper = group.hog("adj=1000", "eat=56M", "say=ready", "pause", stdout=subprocess.PIPE)
            assert sleeper.stdout is not None
            with sleeper.stdout:
                await asyncio.to_thread(sleeper.stdout.readline)
            try:
                with freezer.frozen(sleeper.pid):
                    sleeper.kill()
                    trigger = group.hog("comm=small", "eat=10M")
                    await asyncio.to_thread(sleeper.wait)
            except freezer.Unavailable as error:
                pytest.skip(str(error))
            # The kernel may find that it was not enough, and kill the trigger for itself.
            kills = int(await asyncio.to_thread(trigger.wait) != 0)
            kill = await agent.kill(sleeper.pid)
            assert group.oom_kills() == kills

    assert sleeper.returncode == -signal.SIGKILL
    assert kill["oom.episode.role"] == "already_dying"
    assert kill["oom.episode.kills"] == 0
    assert kill["oom.cgroup.kill_count"] == 0
    assert "oom.episode.role" not in kill.missing
    assert kill["oom.trigger.process.pid"] == trigger.pid
    assert kill["oom.exit.confirmed"] is True
    assert kill.log.body.string_value.startswith("OOM: let die (it was dying already) hog")
    assert agent.identities()["dying"] >= 1  # others on this machine may have died, too
