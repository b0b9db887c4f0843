"""SIGHUP while the kernel kills: no record is lost, and what no probe saw is told from the counter."""

from __future__ import annotations

import asyncio
import collections
import json
import pathlib
import signal
import socket

import pytest
from doubles import agent_process, collected, memory_cgroup, otlp_server, real_collector

from otel_oom import semconv
from otel_oom.pipeline import otlp

RELOADS, MANY = 6, 20
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_proxies")]


def config(folder: pathlib.Path, url: str, number: int = 0, **oom: str) -> str:
    """The number changes all but the receiver and the storage: the queue is handed over."""
    exporters = {
        "otlp_http": {
            "endpoint": f"{url}/{number}",
            "sending_queue": {"storage": "file_storage"},
            "retry_on_failure": {"initial_interval": "50ms", "max_interval": "100ms"},
        },
    }
    if number % 2:
        exporters["file"] = {"path": str(folder / "told.jsonl")}
    return agent_process.config(
        folder,
        exporters,
        processors={"resource": {"attributes": [
            {"key": "reload", "value": str(number), "action": "upsert"}]}},
        extensions={"file_storage": {"directory": str(folder)}},
        oom=oom,
    )  # fmt: skip


def reload(agent: agent_process.AgentProcess, folder: pathlib.Path, text: str) -> None:
    """Give it another config, and wait until it runs with that."""
    done = "reload: running with the new configuration"
    before = agent.log().count(done)
    (path,) = folder.glob("agent-*.yaml")
    path.write_text(text)
    agent.process.send_signal(signal.SIGHUP)
    collected.until(lambda: agent.log().count(done) > before or agent.process.poll(), "the reload")


class Killer:
    """Makes kills in a cgroup until it is told to stop."""

    def __init__(self, group: memory_cgroup.MemoryCgroup) -> None:
        self._group = group
        self._is_on = True
        self.pids: list[int] = []
        self._work = asyncio.create_task(asyncio.to_thread(self._kill))

    def _kill(self) -> None:
        while self._is_on:
            self.pids.append(memory_cgroup.kill(self._group))

    async def stop(self) -> list[int]:
        self._is_on = False
        await self._work
        return self.pids


def told(
    server: otlp_server.HttpServer, group: memory_cgroup.MemoryCgroup
) -> tuple[list[int], int]:
    """The victims of the cgroup by their records, and the kills that only a counter tells of.

    It is the cgroup's own, or the whole host's where nobody can say whose kills they were.
    """
    pids, missed = {}, {}
    for received in server.received:
        for resource in received.message.resource_logs if received.signal == "logs" else ():
            for record in resource.scope_logs[0].log_records:
                found = otlp.attributes([*resource.resource.attributes, *record.attributes])
                path, uid = found.get(semconv.PROCESS_LINUX_CGROUP), found[semconv.LOG_RECORD_UID]
                if path in {None, group.name} and (count := found.get(semconv.MISSED_COUNT)):
                    missed[uid] = count
                elif path == group.name:
                    pids[uid] = found["process.pid"]
    return list(pids.values()), sum(missed.values())


async def test_no_kill_is_lost_while_everything_behind_the_receiver_is_swapped(tmp_path, is_long):
    """The probes stay attached; the destination is away half of the time."""
    (port,) = real_collector.free_ports(1)
    url = f"http://127.0.0.1:{port}"
    server = otlp_server.HttpServer()
    with memory_cgroup.temporary() as group:
        group.set_limit(32 << 20)
        with agent_process.running(config(tmp_path, url), tmp_path) as agent:
            killer = Killer(group)
            for number in range(1, (MANY if is_long else RELOADS) + 1):
                await (server.start(None, port) if number % 2 else server.stop())
                text = config(tmp_path, url, number)
                await asyncio.to_thread(reload, agent, tmp_path, text)
            await server.start(None, port)
            pids = await killer.stop()
            async with asyncio.timeout(60):
                while set(pids) - set(told(server, group)[0]):
                    await asyncio.sleep(0.05)
            stopped = await asyncio.to_thread(agent.stop)
        await server.stop()

    assert len(pids) >= RELOADS
    assert collections.Counter(told(server, group)[0]) == collections.Counter(pids)
    assert stopped.status == 0
    assert stopped.every_mark_is_reported()
    assert stopped.sums["logs"]["dropped"] == stopped.sums["logs"]["recovered"] == 0
    assert agent.log().count("receivers/oom: StatusOK") == 1, "no probe was ever away"


async def test_a_kill_while_the_receiver_itself_is_swapped_is_told_from_a_counter(tmp_path):
    server = otlp_server.HttpServer()
    async with otlp_server.serving(server):
        url = f"http://127.0.0.1:{server.port}"
        with memory_cgroup.temporary() as group:
            group.set_limit(32 << 20)
            with agent_process.running(config(tmp_path, url), tmp_path) as agent:
                killer = Killer(group)
                for number in range(2):
                    text = config(tmp_path, url, settle=f"{100 + number}ms")
                    await asyncio.to_thread(reload, agent, tmp_path, text)
                pids = await killer.stop()
                async with asyncio.timeout(60):
                    while counted(server, group) < len(pids):
                        await asyncio.sleep(0.05)
                stopped = await asyncio.to_thread(agent.stop)

    seen, missed = told(server, group)
    assert set(seen) <= set(pids)
    assert len(set(seen)) == len(seen)
    assert len(seen) + missed >= len(pids), "each has a record of its own, or is counted"
    assert stopped.status == 0


def counted(server: otlp_server.HttpServer, group: memory_cgroup.MemoryCgroup) -> int:
    seen, missed = told(server, group)
    return len(seen) + missed


async def test_a_bad_config_changes_nothing_and_says_why(tmp_path):
    server = otlp_server.HttpServer()
    async with otlp_server.serving(server):
        url = f"http://127.0.0.1:{server.port}"
        with memory_cgroup.temporary() as group:
            group.set_limit(32 << 20)
            with agent_process.running(config(tmp_path, url), tmp_path) as agent:
                (path,) = tmp_path.glob("agent-*.yaml")
                path.write_text("receivers: {oom: {settle: soon}}")
                agent.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(agent.wait_for_line, "the running configuration is kept")
                assert "receivers.oom.settle" in agent.log()
                pid = await asyncio.to_thread(memory_cgroup.kill, group)
                async with asyncio.timeout(60):
                    while told(server, group)[0] != [pid]:
                        await asyncio.sleep(0.05)
                stopped = await asyncio.to_thread(agent.stop)
    assert stopped.status == 0


async def test_what_waits_in_memory_goes_to_the_endpoint_that_is_corrected(tmp_path):
    """The one that is wrong is silent; there is no storage."""
    server = otlp_server.HttpServer()
    with socket.create_server(("127.0.0.1", 0)) as silent, memory_cgroup.temporary() as group:
        group.set_limit(32 << 20)
        wrong = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with agent_process.running(in_memory(tmp_path, wrong), tmp_path) as agent:
            pids = [await asyncio.to_thread(memory_cgroup.kill, group) for _ in range(3)]
            await asyncio.to_thread(agent.wait_for_line, "cannot send and tries again")
            async with otlp_server.serving(server):
                right = in_memory(tmp_path, f"http://127.0.0.1:{server.port}")
                await asyncio.to_thread(reload, agent, tmp_path, right)
                async with asyncio.timeout(60):
                    while set(told(server, group)[0]) != set(pids):
                        await asyncio.sleep(0.05)
                stopped = await asyncio.to_thread(agent.stop)

    assert sorted(told(server, group)[0]) == sorted(pids)
    assert stopped.status == 0
    assert all(sums["dropped"] == sums["recovered"] == 0 for sums in stopped.sums.values())


def in_memory(folder: pathlib.Path, url: str) -> str:
    made = json.loads(
        agent_process.config(folder, {"otlp_http": {"endpoint": url, "timeout": "500ms"}})
    )
    made["service"]["shutdown_timeout"] = "1s"
    return json.dumps(made)
