"""Runs inside the VM: the capture modes on this kernel, and the fall from one to the next.

A JSON line a scenario: what was done, and every record that told of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import shutil
import subprocess
from typing import Any

from doubles import memory_cgroup, oom_capture

MIB = 1 << 20
STATE = pathlib.Path("/tmp/state")
oom_capture.PATIENCE_S = 90.0  # emulated, ten times slower than a machine


async def plain(group: memory_cgroup.MemoryCgroup, mode: str) -> list[int]:
    """Three kills, one after the other, in one mode."""
    return [await asyncio.to_thread(memory_cgroup.kill, group) for _ in range(3)]


async def whole_group(group: memory_cgroup.MemoryCgroup, mode: str) -> list[int]:
    """memory.oom.group: a hog and two sleepers."""
    (group.path / "memory.oom.group").write_text("1")
    sleepers = [group.hog("eat=1M", "say=ready", "pause", stdout=subprocess.PIPE) for _ in range(2)]
    for sleeper in sleepers:
        assert sleeper.stdout is not None
        await asyncio.to_thread(sleeper.stdout.readline)
    processes = [group.hog("eat=100M"), *sleepers]
    for process in processes:
        await asyncio.to_thread(process.wait)
    return [process.pid for process in processes]


async def detached(group: memory_cgroup.MemoryCgroup, mode: str) -> list[int]:
    """A kill, then the programs are taken away, then two more that nobody sees but the log."""
    pids = [await asyncio.to_thread(memory_cgroup.kill, group)]
    take_away()
    return [*pids, *(memory_cgroup.kill(group) for _ in range(2))]


def take_away() -> None:
    """Put another file where each link of a program was."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        for file in list(pathlib.Path("/proc/self/fd").iterdir()):
            if file.is_symlink() and "bpf_link" in str(file.readlink()):
                os.dup2(nothing.fileno(), int(file.name))


async def play(scenario: Any, modes: list[str]) -> None:
    """One scenario with an agent of its own."""
    shutil.rmtree(STATE, ignore_errors=True)
    line: dict[str, Any] = {"scenario": scenario.__name__, "mode": modes[0]}
    try:
        with memory_cgroup.temporary(32 * MIB) as group:
            async with oom_capture.running(STATE, capture_modes=modes) as agent:
                line["pids"] = await scenario(group, modes[0])
                line["counted"] = group.oom_kills()
                await agent.until(
                    lambda: oom_capture.told(agent.kills) >= len(line["pids"]), "every kill"
                )
                await asyncio.sleep(3)
            line["cgroup"] = group.name
        line["told"] = [kill.attributes for kill in agent.kills]
        line["statuses"] = [status.detail for status in agent.statuses]
        line["summary"] = agent.receiver.summary()
    except Exception as error:  # noqa: BLE001 - it is told, and the next scenario is played
        line["error"] = f"{type(error).__name__}: {error}"[:2000]
    print(json.dumps(line), flush=True)


async def main() -> None:
    with memory_cgroup.temporary() as group:
        scenarios = [plain, whole_group] if group.version == 2 else [plain]
    for mode in ("kmsg", "counter"):
        for scenario in scenarios:
            await play(scenario, [mode])
    await play(detached, ["core", "kmsg", "counter"])


asyncio.run(main())
