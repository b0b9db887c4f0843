"""A stop sends what it can in `shutdown_timeout`; the rest stays on the disk for the next life."""

from __future__ import annotations

import asyncio
import json
import pathlib
import socket

import pytest
from doubles import agent_process, collected, memory_cgroup, otlp_server

KILLS = 3
pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_proxies")]


def config(folder: pathlib.Path, port: int) -> str:
    exporters = {
        "otlp_http": {
            "endpoint": f"http://127.0.0.1:{port}",
            "sending_queue": {"storage": "file_storage"},
            "retry_on_failure": {"initial_interval": "50ms", "max_interval": "100ms"},
        },
        "file": {"path": str(folder / "told.jsonl")},
    }
    extensions = {"file_storage": {"directory": str(folder)}}
    made = json.loads(agent_process.config(folder, exporters, extensions=extensions))
    made["service"]["shutdown_timeout"] = "1s"
    return json.dumps(made)


def life_with_kills(folder: pathlib.Path, port: int) -> tuple[set[int], agent_process.Stopped]:
    with memory_cgroup.temporary() as group:
        group.set_limit(32 << 20)
        with agent_process.running(config(folder, port), folder) as agent:
            pids = {memory_cgroup.kill(group) for _ in range(KILLS)}
            told = folder / "told.jsonl"
            collected.until(
                lambda: told.exists() and all(f'"{pid}"' in told.read_text() for pid in pids),
                "the records in the file",
            )
            return pids, agent.stop()


async def test_what_a_silent_destination_does_not_take_in_time_is_delivered_by_the_next_life(
    tmp_path,
):
    """It accepts connections and says nothing, so that each try takes all the time there is."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        pids, stopped = await asyncio.to_thread(life_with_kills, tmp_path, port)

    assert stopped.status == 0
    logs = stopped.sums["logs"]
    assert (logs["dropped"], logs["rejected"]) == (0, 0)
    assert logs["held"] >= KILLS

    server = otlp_server.HttpServer()
    async with otlp_server.serving(server, None, port):
        with agent_process.started(config(tmp_path, port), tmp_path) as agent:
            async with asyncio.timeout(60):
                while not pids <= arrived(server):
                    await asyncio.sleep(0.02)
            second = await asyncio.to_thread(agent.stop)
    assert second.status == 0
    assert second.sums["logs"]["recovered"] == logs["held"]
    assert second.sums["logs"]["held"] == 0


def arrived(server: otlp_server.HttpServer) -> set[int]:
    """Pids that the log records tell of."""
    return {
        attribute.value.int_value
        for received in server.received
        if received.signal == "logs"
        for resource in received.message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
        for attribute in record.attributes
        if attribute.key == "process.pid"
    }
