"""What a queue on a disk has accepted comes out, however the process ends and whoever else comes."""

from __future__ import annotations

import asyncio
import collections
import pathlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from doubles import (
    agent_process,
    collected,
    exporting,
    keeper,
    keeping,
    memory_cgroup,
    otlp_json_reader,
    otlp_server,
    real_collector,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom import errors

KILLS, LONG_KILLS = 25, 500
LONG_S = 60.0


def start(folder: pathlib.Path, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", keeper.__file__, str(folder), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def accepted(process: subprocess.Popen[str], count: int) -> list[int]:
    """Wait until it has accepted so many, kill it, and return all that it said it has."""
    assert process.stdout is not None
    numbers = [int(process.stdout.readline()) for _ in range(count)]
    process.kill()
    lines = process.stdout.read().split("\n")[:-1]  # after the last newline: cut off
    process.wait()
    return numbers + [int(line) for line in lines]


def test_a_process_that_is_killed_at_any_instant_loses_nothing_that_it_accepted(
    is_long, tmp_path, capsys
):
    """At-least-once: what was on its way at a kill may come twice, and no more than that."""
    told: list[int] = []
    kills = LONG_KILLS if is_long else KILLS
    for _ in range(kills):
        first = told[-1] + 2 if told else 0  # one more may be on the disk than was said
        with start(tmp_path, first) as process:
            told += accepted(process, random.randrange(1, 60))
    with start(tmp_path, told[-1] + 2) as process:
        assert process.stdout is not None
        told.append(int(process.stdout.readline()))
        process.terminate()
        told += map(int, process.stdout.read().split())
        assert process.wait(LONG_S) == 0

    counts = collections.Counter(map(int, (tmp_path / "delivered").read_text().split()))
    assert set(told) <= counts.keys()
    unsaid = counts.keys() - set(told)
    assert len(unsaid) <= kills, "each kill breaks off one acceptance at most"
    twice = sum(counts.values()) - len(counts)
    assert twice <= kills * 8, "four of each weight were on their way at each kill"
    with capsys.disabled():
        print(f"\n{kills} kills: {len(told)} records accepted, none lost, {twice} came twice")


async def test_two_agents_never_share_a_directory(tmp_path):
    async with keeping.running(tmp_path, keeping.Destination()):
        with pytest.raises(errors.ComponentError, match=r"in use by another agent; give each"):
            async with keeping.running(tmp_path, keeping.Destination()):
                pass
    async with keeping.running(tmp_path, keeping.Destination()) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))


@pytest.mark.root
async def test_kills_are_told_though_the_backend_was_away_and_the_agent_was_killed(tmp_path):
    """Real kills, a real agent that is killed with them in its queue, and its next life."""
    (port,) = real_collector.free_ports(1)
    config = agent_process.config(
        tmp_path,
        {
            "otlp_http": {
                "endpoint": f"http://127.0.0.1:{port}",
                "sending_queue": {"storage": "file_storage"},
                "retry_on_failure": {"initial_interval": "50ms", "max_interval": "100ms"},
            },
            "file": {"path": str(tmp_path / "told.jsonl")},
        },
        extensions={"file_storage": {"directory": str(tmp_path)}},
    )
    with memory_cgroup.temporary() as group:
        group.set_limit(32 << 20)
        with agent_process.running(config, tmp_path) as agent:
            pids = {memory_cgroup.kill(group) for _ in range(3)}
            # It is written after it was accepted by the other exporter.
            collected.until(lambda: pids <= pids_in(written(tmp_path)), "the records in the file")
            agent.process.kill()
            agent.wait()
        server = otlp_server.HttpServer()
        async with otlp_server.serving(server, None, port):
            await asyncio.to_thread(next_life, config, tmp_path, lambda: pids <= arrived(server))


def next_life(config: str, folder: pathlib.Path, is_there: Callable[[], bool]) -> None:
    """Start the agent again and wait for what it had; its sum closes with that."""
    with agent_process.running(config, folder) as agent:
        collected.until(is_there, "what the first life had accepted")
        stopped = agent.stop()
    assert stopped.sums["logs"]["recovered"] >= 1


def written(folder: pathlib.Path) -> Iterator[LogsData]:
    for line in (folder / "told.jsonl").read_bytes().splitlines():
        if b"resourceLogs" in line:
            yield otlp_json_reader.parse(line, LogsData)


def arrived(server: otlp_server.HttpServer) -> set[int]:
    return pids_in(one.message for one in server.received if one.signal == "logs")


def pids_in(messages: Iterable[Any]) -> set[int]:
    """Victims that log records tell of."""
    return {
        attribute.value.int_value
        for message in messages
        for resource in message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        for attribute in record.attributes
        if attribute.key == "process.pid"
    }


async def fill(agent: exporting.Agent, exporter: Any) -> None:
    for _ in range(100):
        await agent.consume(exporter, exporting.logs("x" * 20_000))


@pytest.mark.root
async def test_a_full_disk_refuses_and_takes_again_once_there_is_room(tmp_path):
    """A real file system that is full, and then larger; what it had taken all arrives."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path], check=True)
    destination = keeping.Destination(is_up=False)
    try:
        async with keeping.running(tmp_path, destination) as (agent, exporter):
            with pytest.raises(errors.Refused, match="make room on its disk") as refused:
                await fill(agent, exporter)
            assert refused.value.reason == "storage_full"
            taken = agent.sum()["held"]
            assert taken > 1
            subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
            await agent.consume(exporter, exporting.logs("again"))
            destination.is_up = True
            await keeping.until(lambda: "held" not in agent.sum())
        assert agent.sum() == {"delivered": taken + 1, "storage_full": 1}
    finally:
        subprocess.run(["umount", tmp_path], check=True)
