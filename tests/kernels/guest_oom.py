"""Runs inside the VM: kills that only a whole kernel of one's own can give, a JSON line each.

Arguments are none: every way of hooking that the kernel allows is used in turn, the better ones
taken away. The best makes all kills, the others some.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from doubles import freezer, memory_cgroup, oom_capture

from otel_oom.bpf import probe

MIB = 1 << 20
MARK = "task" if probe.kernel().mark_takes_task else "pid"
oom_capture.PATIENCE_S = 60.0  # emulated, ten times slower than a machine


async def ready(process: subprocess.Popen[bytes]) -> None:
    """Wait for the hog's `say`."""
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)


async def died(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait)


async def plain(agent: oom_capture.Agent) -> dict[str, Any]:
    """One process hits its own limit; its name for itself is the last variable that is looked at."""
    environment = dict.fromkeys(map("V{}".format, range(255)), "secret") | {
        "OTEL_SERVICE_NAME": "shop"
    }
    with memory_cgroup.temporary(32 * MIB) as group:
        hog = group.hog("eat=100M", env=environment)
        await died(hog)
        await agent.kill(hog.pid)
        return {"pid": hog.pid, "cgroup": group.name}


async def other_asks(agent: oom_capture.Agent) -> dict[str, Any]:
    """A big sleeper dies for a small process's request."""
    with memory_cgroup.temporary(64 * MIB) as group:
        sleeper = group.hog("adj=1000", "eat=56M", "say=ready", "pause", stdout=subprocess.PIPE)
        await ready(sleeper)
        trigger = group.hog("comm=small", "eat=10M")
        await died(sleeper)
        await died(trigger)
        await agent.kill(sleeper.pid)
        return {"pid": sleeper.pid, "trigger": trigger.pid}


async def whole_group(agent: oom_capture.Agent) -> dict[str, Any]:
    """memory.oom.group: a hog and three sleepers, one decision, four kills."""
    with memory_cgroup.temporary(64 * MIB, group=True) as group:
        sleepers = [
            group.hog("eat=1M", "say=ready", "pause", stdout=subprocess.PIPE) for _ in range(3)
        ]
        for sleeper in sleepers:
            await ready(sleeper)
        hog = group.hog("eat=100M")
        pids = [process.pid for process in (hog, *sleepers)]
        for process in (hog, *sleepers):
            await died(process)
        for pid in pids:
            await agent.kill(pid)
        return {"hog": hog.pid, "pids": pids, "counted": group.oom_kills()}


async def leader_gone(agent: oom_capture.Agent) -> dict[str, Any]:
    """The thread-group leader has exited: the hook gives a thread's id."""
    with memory_cgroup.temporary(32 * MIB) as group:
        hog = group.hog("orphan", "eat=100M")
        await died(hog)
        await agent.kill(hog.pid)
        return {"pid": hog.pid}


async def limit_lowered(agent: oom_capture.Agent) -> dict[str, Any]:
    """Somebody outside the cgroup writes a smaller memory.max."""
    with memory_cgroup.temporary(64 * MIB) as group:
        sleeper = group.hog("eat=40M", "say=ready", "pause", stdout=subprocess.PIPE)
        await ready(sleeper)
        writer = subprocess.Popen(["sh", "-c", f"echo 8M > {group.path}/memory.max"])
        await died(sleeper)
        await died(writer)
        await agent.kill(sleeper.pid)
        return {"pid": sleeper.pid, "writer": writer.pid}


async def unkillable(agent: oom_capture.Agent) -> dict[str, Any]:
    """Only a process of adj -1000 is there: attempts, and no kill."""
    with memory_cgroup.temporary(32 * MIB) as group:
        hog = group.hog("adj=-1000", "eat=100M", stderr=subprocess.DEVNULL)
        await asyncio.sleep(3)
        hog.kill()
        await died(hog)
        return {"pid": hog.pid, "attempts": group.events().get("oom"), "kills": group.oom_kills()}


async def dying(agent: oom_capture.Agent) -> dict[str, Any]:
    """The kernel chooses a process that somebody killed, and that has not got on with it."""
    with memory_cgroup.temporary(64 * MIB) as group:
        sleeper = group.hog("adj=1000", "eat=56M", "say=ready", "pause", stdout=subprocess.PIPE)
        await ready(sleeper)
        with freezer.frozen(sleeper.pid):
            sleeper.kill()
            trigger = group.hog("comm=small", "eat=10M")
            await died(sleeper)
        await agent.kill(sleeper.pid)
        return {
            "pid": sleeper.pid,
            "trigger": trigger.pid,
            "status": await died(trigger),
            "kills": group.oom_kills(),
        }


async def sysrq(agent: oom_capture.Agent) -> dict[str, Any]:
    """A kernel thread asks, by sysrq f: the host is short, whoever has the most points dies."""
    with memory_cgroup.temporary() as group:
        sleeper = group.hog("adj=1000", "eat=40M", "say=ready", "pause", stdout=subprocess.PIPE)
        await ready(sleeper)
        pathlib.Path("/proc/sysrq-trigger").write_text("f")
        await died(sleeper)
        await agent.kill(sleeper.pid)
        return {"pid": sleeper.pid}


async def storm(agent: oom_capture.Agent) -> dict[str, Any]:
    """Sixty kills in six cgroups, a shell in each as fast as it goes."""
    with memory_cgroup.temporary() as parent:
        groups = [parent.child(f"c{index}", 16 * MIB) for index in range(6)]
        hogs = [group.hog("fork=10", "eat=32M") for group in groups]
        for hog in hogs:
            await died(hog)
        expected = sum(group.oom_kills() for group in groups)
        await agent.until(lambda: len(agent.kills) >= expected, f"{expected} records")
        return {"expected": expected}


SCENARIOS: list[Callable[[oom_capture.Agent], Awaitable[dict[str, Any]]]] = [
    plain,
    other_asks,
    leader_gone,
    unkillable,
    dying,
    sysrq,
    storm,
]
EVERY_MODE = [plain, other_asks, dying]
V2_SCENARIOS = [whole_group, limit_lowered]


async def play(scenario: Any, mode: str, state: pathlib.Path) -> None:
    """One scenario with an agent of its own; prints what was made and what was told."""
    line: dict[str, Any] = {"scenario": scenario.__name__, "mode": mode, "mark": MARK}
    try:
        async with oom_capture.running(state, settle=3.0) as agent:
            await asyncio.sleep(1)
            line["made"] = await scenario(agent)
            await asyncio.sleep(2)
        line["told"] = [kill.attributes for kill in agent.kills]
        line["spans"] = len(agent.spans)
        line["status"] = agent.statuses[0].detail
        line["summary"] = agent.receiver.summary()[0]
        line["identities"] = agent.identities()
        line["metric"] = agent.kills_metric()
    except Exception as error:  # noqa: BLE001 - it is told, and the next scenario is played
        line["error"] = f"{type(error).__name__}: {error}"[:2000]
    print(json.dumps(line), flush=True)


async def main() -> None:
    state = pathlib.Path("/tmp/state")
    with memory_cgroup.temporary() as group:
        version = group.version
    scenarios = SCENARIOS + (V2_SCENARIOS if version == 2 else [])
    hooks = dict(probe.decision_hooks(probe.kernel(), {}))
    attached = probe.attach(probe.kernel(), 1 << 20)
    best = attached.decision_hook
    attached.object.close()
    for mode in list(hooks)[list(hooks).index(best) :]:
        probe.decision_hooks = lambda *_, only=mode: [(only, hooks[only])]
        for scenario in scenarios if mode == best else [*EVERY_MODE, *scenarios[len(SCENARIOS) :]]:
            with contextlib.suppress(FileNotFoundError):
                (state / "oom.json").unlink()
            await play(scenario, mode, state)


print(json.dumps({"release": os.uname().release, "python": sys.version.split()[0]}), flush=True)
asyncio.run(main())
