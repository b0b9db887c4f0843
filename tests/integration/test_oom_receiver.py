"""Real kills by this machine's kernel, seen by the receiver in this process."""

from __future__ import annotations

import asyncio
import os
import pathlib
import re
import signal
import subprocess

import pytest
from doubles import memory_cgroup, oom_capture

pytestmark = pytest.mark.root

MIB = 1024 * 1024


async def died(process: subprocess.Popen[bytes]) -> int:
    """Its exit status, without standing in the way of the loop."""
    return await asyncio.to_thread(process.wait)


async def test_a_process_that_hits_its_own_limit(tmp_path: pathlib.Path) -> None:
    """Victim and trigger are one; every number agrees with the cgroup that the test made."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog("eat=100M")
            assert await died(hog) == -signal.SIGKILL
            kill = await agent.kill(hog.pid)

    assert kill["process.executable.name"] == "hog"
    assert kill["process.command_args"] == [str(memory_cgroup.hog_binary()), "eat=100M"]
    assert kill["process.parent_pid"] == os.getpid()
    assert kill["process.linux.cgroup"] == group.name
    assert kill["process.user.id"] == os.getuid()
    assert kill["process.exit.code"] == 128 + signal.SIGKILL
    assert kill["oom.exit.confirmed"] is True
    assert kill["oom.constraint"] == "memcg"
    assert kill["oom.limit.cgroup"] == group.name
    assert kill["oom.limit.bytes"] == 32 * MIB
    assert kill["oom.limit.usage"] <= 32 * MIB
    assert kill["oom.cgroup.limit"] == 32 * MIB
    assert kill["oom.trigger.is_victim"] is True
    assert kill["oom.trigger.process.pid"] == hog.pid
    assert kill["oom.cgroup.kill_count"] == 1
    assert kill["oom.episode.role"] == "primary"
    assert kill["oom.episode.kills"] == 1
    assert kill["oom.group"] is False
    assert kill["oom.capture.mode"] == "core"
    assert kill["oom.victim.memory.anon"] > 24 * MIB


async def test_the_numbers_are_the_kernels_own(tmp_path: pathlib.Path) -> None:
    """Pages by kind and the badness adjustment equal the "Killed process" line of its log."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog("adj=7", "eat=100M")
            await died(hog)
            kill = await agent.kill(hog.pid)

    said = killed_line(hog.pid)
    assert kill["oom.victim.memory.virtual"] == said["total-vm"] * 1024
    assert kill["oom.victim.memory.anon"] == said["anon-rss"] * 1024
    assert kill["oom.victim.memory.file"] == said["file-rss"] * 1024
    assert kill["oom.victim.memory.shmem"] == said["shmem-rss"] * 1024
    assert kill["oom.victim.memory.page_tables"] == said["pgtables"] * 1024
    assert kill["oom.victim.score_adj"] == said["oom_score_adj"] == 7


async def test_the_victim_is_not_the_trigger(tmp_path: pathlib.Path) -> None:
    """A big sleeper dies because a small process asks: two processes, told apart."""
    with memory_cgroup.temporary(64 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            sleeper = group.hog("adj=1000", "eat=56M", "say=ready", "pause", stdout=subprocess.PIPE)
            await ready(sleeper)
            trigger = group.hog("comm=small", "eat=10M")
            assert await died(sleeper) == -signal.SIGKILL
            memory_cgroup.lived(await died(trigger))
            kill = await agent.kill()

    assert kill["process.pid"] == sleeper.pid
    assert kill["oom.trigger.process.pid"] == trigger.pid
    assert kill["oom.trigger.process.executable.name"] == "small"
    assert kill["oom.trigger.is_victim"] is False
    assert kill["oom.trigger.cgroup"] == group.name
    assert kill["process.command_args"][1:] == ["adj=1000", "eat=56M", "say=ready", "pause"]
    roles = {(p["pid"], p["role"]) for p in kill["oom.processes"]}
    assert {(sleeper.pid, "victim"), (trigger.pid, "trigger"), (os.getpid(), "ancestor")} <= roles


async def test_the_tree_has_parents_and_siblings(tmp_path: pathlib.Path) -> None:
    """A worker dies, its parent and its sibling live: the container-that-survives case."""
    with memory_cgroup.temporary(64 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            sibling = group.hog("comm=sibling", "say=ready", "pause", stdout=subprocess.PIPE)
            await ready(sibling)
            parent = group.hog("comm=parent", "fork=1", "comm=worker", "eat=100M")
            await died(parent)
            kill = await agent.kill()
            sibling.kill()
            await died(sibling)

    by_role = {p["role"]: p for p in kill["oom.processes"] if p["role"] != "ancestor"}
    assert kill["process.executable.name"] == "worker"
    assert kill["process.parent_pid"] == parent.pid
    assert by_role["victim"]["parent_pid"] == parent.pid
    assert by_role["sibling"]["pid"] == sibling.pid
    assert by_role["sibling"]["name"] == "sibling"
    ancestors = [p["pid"] for p in kill["oom.processes"] if p["role"] == "ancestor"]
    assert ancestors[:2] == [parent.pid, os.getpid()]


async def test_a_thread_allocates(tmp_path: pathlib.Path) -> None:
    """The process is named, not the thread that asked."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog("thread", "comm=a thread", "eat=100M")
            await died(hog)
            kill = await agent.kill()

    assert kill["process.pid"] == hog.pid
    assert kill["process.executable.name"] == "hog"
    assert kill["oom.trigger.is_victim"] is True
    assert kill["oom.exit.confirmed"] is True


async def test_the_leader_has_exited_before(tmp_path: pathlib.Path) -> None:
    """The hook then gives a thread's id; the record has the process's all the same."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog("orphan", "eat=100M")
            await died(hog)
            kill = await agent.kill()

    assert kill["process.pid"] == hog.pid
    assert kill["oom.victim.memory.anon"] > 16 * MIB
    assert kill["oom.exit.confirmed"] is True
    assert kill["process.command_args"][1:] == ["orphan", "eat=100M"]


async def test_names_of_odd_bytes(tmp_path: pathlib.Path) -> None:
    """A newline, an escape and bytes that are no UTF-8 arrive, and the body stays one line."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog(b"argv0=\xff\n\x1b[31m", b"comm=a\n\x1b[2J\xfe", "eat=100M")
            await died(hog)
            kill = await agent.kill()

    assert kill["process.executable.name"] == "a\n\x1b[2J\\xfe"
    assert kill["process.command_args"][0] == "\\xff\n\x1b[31m"
    assert kill.log.body.string_value.isprintable()


async def test_a_long_command_line_is_cut_and_says_so(tmp_path: pathlib.Path) -> None:
    """4096 bytes are kept, and the whole length is told."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog("eat=100M", *["x" * 1000] * 8)
            await died(hog)
            kill = await agent.kill()

    assert sum(len(arg) + 1 for arg in kill["process.command_args"]) in (4096, 4097)
    assert re.fullmatch(r"cut, the whole has 8\d{3} bytes", kill.missing["process.command_args"])


async def test_the_limit_of_an_ancestor(tmp_path: pathlib.Path) -> None:
    """The pod's limit is hit by a container that has its own, larger one: both are told."""
    with memory_cgroup.temporary(32 * MIB) as pod:
        container = pod.child("container", 64 * MIB)
        async with oom_capture.running(tmp_path, within=pod) as agent:
            await died(container.hog("eat=100M"))
            kill = await agent.kill()

    assert kill["process.linux.cgroup"] == f"{pod.name}/container"
    assert kill["oom.limit.cgroup"] == pod.name
    assert kill["oom.limit.bytes"] == 32 * MIB
    assert kill["oom.cgroup.limit"] == 64 * MIB


async def test_a_cgroup_path_of_four_kib(tmp_path: pathlib.Path) -> None:
    """Fifteen components of 250 bytes arrive whole, and the limit is found above them."""
    with memory_cgroup.temporary(32 * MIB) as group:
        deepest = group
        for index in range(15):
            deepest = deepest.child(f"{index:02d}" + "n" * 248)
        async with oom_capture.running(tmp_path, within=group) as agent:
            await died(deepest.hog("eat=100M"))
            kill = await agent.kill()

    assert len(deepest.name) > 3750
    assert kill["process.linux.cgroup"] == deepest.name
    assert kill["oom.limit.cgroup"] == group.name


async def test_a_cgroup_that_is_gone_when_it_is_reported(tmp_path: pathlib.Path) -> None:
    """The path was read in the kernel, so the directory need not be there any more."""
    async with oom_capture.running(tmp_path, settle=5.0) as agent:
        with memory_cgroup.temporary(32 * MIB) as group:
            hog = group.hog("eat=100M")
            status = hog.wait()  # the loop stands still: nothing is read until it is gone
        kill = await agent.kill(hog.pid)

    assert status == -signal.SIGKILL
    assert not group.path.exists()
    assert kill["process.linux.cgroup"] == group.name
    assert kill["oom.limit.bytes"] == 32 * MIB
    assert "oom.cgroup.memory.*" in kill.missing
    assert kill["process.command_args"][1:] == ["eat=100M"]


async def test_the_span_of_a_kill(tmp_path: pathlib.Path) -> None:
    """From the mark to the exit, with the same ids as the record."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            await died(group.hog("eat=100M"))
            kill = await agent.kill()
            await agent.until(lambda: bool(agent.spans), "the span")

    (span,) = agent.spans
    assert (span.trace_id, span.span_id) == (kill.log.trace_id, kill.log.span_id)
    assert [event.name for event in span.events] == ["marked", "signal_delivered", "exited"]
    assert span.start_time_unix_nano == span.events[0].time_unix_nano
    assert span.end_time_unix_nano == span.events[2].time_unix_nano
    assert abs(span.start_time_unix_nano - kill.log.time_unix_nano) < 1_000_000
    assert kill.log.observed_time_unix_nano > kill.log.time_unix_nano
    assert kill.log.event_name == "oom.kill"


async def test_kills_in_a_row_count_up(tmp_path: pathlib.Path) -> None:
    """Each record carries the kernel's own count of its cgroup, the sequence number."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            for _ in range(7):
                await died(group.hog("eat=100M"))
            await agent.until(lambda: len(agent.kills) == 7, "seven records")

    assert [kill["oom.cgroup.kill_count"] for kill in agent.kills] == [1, 2, 3, 4, 5, 6, 7]
    assert len({kill["oom.episode.id"] for kill in agent.kills}) == 7
    assert len({kill["log.record.uid"] for kill in agent.kills}) == 7


async def test_an_unkillable_process_makes_no_record(tmp_path: pathlib.Path) -> None:
    """Attempts are no kills: with nobody to kill, the allocation fails and nothing is told."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group) as agent:
            hog = group.hog("adj=-1000", "eat=100M", stderr=subprocess.DEVNULL)
            await asyncio.sleep(1)
            hog.kill()
            if await died(hog) == 125:
                pytest.skip("needs CAP_SYS_RESOURCE to make a process unkillable: run as full root")

        assert group.oom_kills() == 0
    assert agent.kills == []


async def test_kills_while_the_agent_is_down(tmp_path: pathlib.Path) -> None:
    """They are reported at the next start, with their cgroup, and only once."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group):
            await asyncio.sleep(0.5)
        for _ in range(2):
            await died(group.hog("eat=100M"))
        async with oom_capture.running(tmp_path, within=group) as second:
            missed = await second.kill()
            await asyncio.sleep(0.5)
        async with oom_capture.running(tmp_path, within=group) as third:
            await asyncio.sleep(0.2)

    assert missed["oom.capture.mode"] == "counter"
    assert missed["oom.missed.count"] == 2
    assert missed["oom.missed.reason"] == "agent_down"
    assert missed["process.linux.cgroup"] == group.name
    assert third.kills == []


async def test_a_ring_that_overflows_loses_nothing(tmp_path: pathlib.Path) -> None:
    """Kills that found no room in the ring are counted there and come as a counter record."""
    with memory_cgroup.temporary(32 * MIB) as group:
        async with oom_capture.running(tmp_path, within=group, ring_size=4096) as agent:
            await asyncio.sleep(0.5)
            for _ in range(8):
                group.hog("eat=100M").wait()  # the loop stands still: nothing is read
            await agent.until(lambda: oom_capture.told(agent.kills) == 8, "eight kills in all")
            lost = [k for k in agent.kills if k["oom.capture.mode"] == "counter"]

    assert {k["oom.missed.reason"] for k in lost} == {"ring_overflow"}
    assert {k["process.linux.cgroup"] for k in lost} == {group.name}
    assert agent.identities()["lost"] >= sum(k["oom.missed.count"] for k in lost)


async def test_many_cgroups_at_once(tmp_path: pathlib.Path) -> None:
    """Forty kills in twenty cgroups: none missing, the identities hold."""
    with memory_cgroup.temporary() as parent:
        groups = [parent.child(f"c{index}", 24 * MIB) for index in range(20)]
        async with oom_capture.running(tmp_path, within=parent) as agent:
            hogs = [group.hog("eat=64M") for group in groups for _ in range(2)]
            statuses = await asyncio.gather(*map(died, hogs))
            killed = statuses.count(-signal.SIGKILL)
            await agent.until(lambda: len(agent.kills) == killed, f"{killed} records")

    assert {k["process.pid"] for k in agent.kills} == {
        hog.pid for hog, status in zip(hogs, statuses, strict=True) if status == -signal.SIGKILL
    }


async def ready(process: subprocess.Popen[bytes]) -> None:
    """Wait for its `say=ready`."""
    assert process.stdout is not None
    with process.stdout:
        line = await asyncio.to_thread(process.stdout.readline)
    assert line.startswith(b"ready")


def killed_line(pid: int) -> dict[str, int]:
    """The kernel log's numbers of a victim, in kB."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in log.splitlines() if f"Killed process {pid} " in line)
    return {key: int(number) for key, number in re.findall(r"([a-z_-]+):(-?\d+)", line)}
