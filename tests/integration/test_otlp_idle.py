"""otlp_grpc while nothing is sent: no connection, no thread of gRPC, and nothing lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import shutil
import socket

import grpc
import pytest
from doubles import agent_process, certificates, exporting, otlp_server, ticker

from otel_oom.exporters import otlp_grpc
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig
from otel_oom.pipeline.tls import TlsConfig

IDLE_S = 0.02
PATIENCE_S = 30.0
FAST = RetryConfig(initial_interval=0.01, max_interval=0.02, max_elapsed_time=60)
SYN_SENT = "02"
"""State in /proc/net/tcp (include/net/tcp_states.h)."""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """No proxy of the machine reaches an exporter under test."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server():
    """On one address, so that one channel is one connection."""
    async with otlp_server.serving(otlp_server.GrpcServer(), None, 0, "127.0.0.1") as server:
        yield server


@contextlib.asynccontextmanager
async def exporter_to(address, *, scheme="http", **config):
    """A started exporter in an agent; at the end the sum closes and nothing is held."""
    agent = exporting.Agent()
    values = {"idle_timeout": IDLE_S, "retry_on_failure": FAST, "timeout": 20.0, **config}
    exporter = otlp_grpc.FACTORY.create(
        agent.settings, otlp_grpc.Config(endpoint=f"{scheme}://{address}", **values)
    )
    await exporter.start()
    try:
        yield agent, exporter
    finally:
        await exporter.shutdown()
        assert "held" not in agent.sum()


async def until(holds):
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


def connections_to(address, *states):
    """Sockets of this host whose other end is a port on the loopback; in these states, if any."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    ended = {"06"}  # TIME_WAIT
    return [
        row
        for row in rows
        if row[2].endswith(f":{port}") and (row[3] in states if states else row[3] not in ended)
    ]


async def test_an_idle_connection_is_closed_and_the_next_request_opens_another(server):
    async with exporter_to(server.address) as (agent, exporter):
        for count in range(1, 5):
            await agent.consume(exporter, exporting.logs("a"))
            await server.wait_for(count)
            await until(lambda: not connections_to(server.address))

        assert agent.sum() == {"delivered": 4}
        assert len(server.peers) == 4
        assert agent.statuses == []


async def test_a_call_under_way_keeps_it_open_however_long_it_takes(server):
    go_on = asyncio.Event()

    async def slow(context):
        await go_on.wait()
        return b""

    server.script[:] = [slow]
    queue = QueueConfig(num_consumers=3)
    async with exporter_to(server.address, sending_queue=queue) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await server.wait_for(1)
        await agent.consume(exporter, exporting.logs("b"))
        await server.wait_for(2)
        await asyncio.sleep(5 * IDLE_S)
        await agent.consume(exporter, exporting.logs("c"))
        await server.wait_for(3)
        go_on.set()
        await until(lambda: "held" not in agent.sum())

        assert agent.sum() == {"delivered": 3}
        assert len(server.peers) == 1


async def test_without_idle_timeout_it_stays_open(server):
    async with exporter_to(server.address, idle_timeout=0.0) as (agent, exporter):
        for count in range(1, 4):
            await agent.consume(exporter, exporting.logs("a"))
            await server.wait_for(count)
            await asyncio.sleep(5 * IDLE_S)

        assert len(server.peers) == 1


async def test_a_connection_that_takes_longer_than_a_try_is_not_begun_again():
    """A listener with no room leaves the client's SYN without an answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        address = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = len(connections_to(address, SYN_SENT))
        retry = RetryConfig(initial_interval=5 * IDLE_S, max_interval=5 * IDLE_S)
        config = {"timeout": 0.1, "retry_on_failure": retry}
        async with exporter_to(address, **config) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))
            await until(lambda: len(connections_to(address, SYN_SENT)) > waiting)
            await asyncio.sleep(1)

            assert len(connections_to(address, SYN_SENT)) == waiting + 1
            assert agent.sum() == {"held": 1}
            full.close()


async def test_a_server_that_comes_back_gets_what_waited_and_is_left_alone_again(server):
    port = int(server.address.split(":")[1])
    async with exporter_to(server.address) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await server.wait_for(1)
        await server.stop()
        for _ in range(3):
            await agent.consume(exporter, exporting.logs("b"))
        await until(lambda: agent.statuses)
        await server.start(None, port, "127.0.0.1")
        await until(lambda: agent.sum() == {"delivered": 4})
        await until(lambda: not connections_to(server.address))


async def test_what_comes_while_it_closes_is_delivered_once(server):
    config = {"idle_timeout": 0.001, "sending_queue": QueueConfig(num_consumers=10)}
    async with exporter_to(server.address, **config) as (agent, exporter):
        for burst in range(40):
            for _ in range(5):
                await agent.consume(exporter, exporting.logs("a"))
            await asyncio.sleep(0.001 * (burst % 8))
        await until(lambda: agent.sum() == {"delivered": 200})

    assert len(server.received) == 200


async def test_a_tls_file_that_breaks_meanwhile_is_told_and_followed_once_it_is_right(tmp_path):
    authority = certificates.Authority(tmp_path, "ours")
    credentials = grpc.ssl_server_credentials([authority.issue("server").texts()])
    root = tmp_path / "ca.pem"
    shutil.copy(authority.root.cert, root)
    config = {"scheme": "https", "tls": TlsConfig(ca_file=str(root))}
    async with (
        otlp_server.serving(otlp_server.GrpcServer(), credentials) as server,
        exporter_to(server.address, **config) as (agent, exporter),
    ):
        await agent.consume(exporter, exporting.logs("a"))
        await until(lambda: agent.sum() == {"delivered": 1})
        await until(lambda: not connections_to(server.address))
        root.write_text("no certificate")
        await agent.consume(exporter, exporting.logs("b"))
        await until(lambda: agent.statuses)
        assert str(root) in agent.statuses[0].detail

        shutil.copy(authority.root.cert, root)
        await until(lambda: agent.sum() == {"delivered": 2})


def entries(pid, folder):
    """How many threads (`task`) or descriptors (`fd`) a process has."""
    return sum(1 for _ in pathlib.Path(f"/proc/{pid}/{folder}").iterdir())


async def test_an_idle_agent_has_no_thread_of_grpc_and_loses_none_by_coming_and_going(
    server, tmp_path
):
    """The command as a process, for in this one the server has threads of gRPC itself."""
    items = 60
    pipeline = {"receivers": ["ticker"], "exporters": ["otlp_grpc"]}
    exporter = {"endpoint": f"http://{server.address}", "idle_timeout": "5ms"}
    text = json.dumps(
        {
            "receivers": {"ticker": {"items": items, "interval": 0.05}},
            "exporters": {"otlp_grpc": exporter},
            "service": {"pipelines": {"logs": pipeline}},
        }
    )
    environment = ticker.install(tmp_path / "distribution")
    with agent_process.started(text, tmp_path, environment=environment) as agent:
        pid = agent.process.pid
        await asyncio.to_thread(agent.wait_until_running)
        await server.wait_for(1)
        await until(lambda: entries(pid, "task") == 1)
        before = entries(pid, "fd")
        await until(lambda: entries(pid, "task") > 1)
        await server.wait_for(items)
        await until(lambda: entries(pid, "task") == 1)

        assert entries(pid, "fd") == before
        assert len(server.peers) > 1
        stopped = await asyncio.to_thread(agent.stop)

    assert stopped.status == 0
    assert stopped.sums["logs"]["delivered"] == items
