"""`otlp_http` on the wire: exchanges that break, forms of an answer, kept connections, URLs."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from doubles import exporting, otlp_server
from doubles.exporting import settled
from doubles.otlp_sides import exporter_of, outcome

from otel_oom.exporters import otlp_http
from otel_oom.pipeline.data import Signal

pytestmark = pytest.mark.usefixtures("no_proxies")


@pytest.mark.parametrize(
    "step",
    [
        otlp_server.http_close,
        otlp_server.http_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", close=True),
        otlp_server.http_raw(b"HTTP/1.1 2", close=True),
        otlp_server.http_raw(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", close=True),
        otlp_server.http_raw(b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", close=True),
        otlp_server.http_raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=True
        ),
        otlp_server.http_endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n"),
        otlp_server.http_endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["closed", "half body", "half head", "not HTTP", "bad length", "bad chunk", "endless head",
         "endless interim answers"],
)  # fmt: skip
async def test_http_an_exchange_that_breaks_is_tried_again(http_side, step):
    assert (await outcome(http_side, step))[:2] == ({"delivered": 3}, 2)


@pytest.mark.parametrize(
    "step",
    [
        otlp_server.http_raw(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ),
        otlp_server.http_raw(b"HTTP/1.0 200 OK\r\n\r\n", close=True),
        otlp_server.http_raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n\x0a\x00\r\n0\r\nT: x\r\n\r\n"
        ),
        otlp_server.http_slow(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\x0a\x00", 0.001),
    ],
    ids=["after 100", "without length", "chunked", "slow"],
)
async def test_http_forms_of_a_success(http_side, step):
    assert (await outcome(http_side, step))[:2] == ({"delivered": 3}, 1)


async def test_http_an_answer_that_is_too_slow_is_cut_off_by_the_timeout(http_side):
    slow = otlp_server.http_slow(
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500, 0.05
    )

    assert (await outcome(http_side, slow, timeout=0.2))[:2] == ({"delivered": 3}, 2)


@pytest.mark.parametrize("length", [b"Content-Length: 99999999999", b"X-No: length"])
async def test_http_a_huge_error_body_is_read_in_part(http_side, length):
    head = b"HTTP/1.1 503 Busy\r\n" + length + b"\r\n\r\n"
    step = otlp_server.http_endless(head, b"x" * 65536)
    sums, requests, agent = await outcome(http_side, step)

    assert (sums, requests) == ({"delivered": 3}, 2)
    assert len(agent.statuses[0].detail) < 1000


async def test_http_a_huge_chunked_success_is_rejected(http_side):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nTransfer-Encoding: chunked\r\n\r\n"
    step = otlp_server.http_endless(head, b"10000\r\n" + b"x" * 65536 + b"\r\n")
    sums, requests, agent = await outcome(http_side, step)

    assert (sums, requests) == ({"rejected": 3}, 1)
    assert "524288" in agent.statuses[0].detail


async def test_http_connections_are_kept_alive(http_side):
    async with exporter_of(otlp_http, **http_side.config()) as (agent, exporter):
        for _ in range(5):
            await agent.consume(exporter, exporting.logs("a"))
            await settled(agent)

    assert http_side.server.connections == 1


async def test_http_a_connection_closed_while_idle_is_replaced_without_a_failure(http_side):
    async def answer_and_close(writer):
        await otlp_server.http_reply()(writer)
        writer.close()

    http_side.server.script[:] = [answer_and_close] * 3
    async with exporter_of(otlp_http, **http_side.config()) as (agent, exporter):
        for _ in range(4):
            await agent.consume(exporter, exporting.logs("a"))
            await settled(agent)

        assert agent.statuses == []


async def test_http_a_kept_connection_that_dies_under_the_next_request_is_replaced(http_side):
    http_side.server.script[:] = [otlp_server.http_reply(), otlp_server.http_close]
    async with exporter_of(otlp_http, **http_side.config()) as (agent, exporter):
        for _ in range(2):
            await agent.consume(exporter, exporting.logs("a"))
            await settled(agent)

        assert agent.statuses == []
        assert agent.sum() == {"delivered": 2}


async def test_http_endpoints(http_side):
    base = http_side.server.url
    config = {"endpoint": f"{base}/prefix/", "traces_endpoint": f"{base}/own/traces?key=1"}
    async with exporter_of(otlp_http, **config) as (agent, exporter):
        for batch in (exporting.logs("a"), exporting.points(1)):
            await agent.consume(exporter, batch)
            await settled(agent, batch.signal)
        http_side.server.script[:] = []
        await agent.consume(exporter, exporting.spans("s"))
        await settled(agent, Signal.TRACES)

    paths = [received.path for received in http_side.server.received]
    assert paths == ["/prefix/v1/logs", "/prefix/v1/metrics", "/own/traces?key=1"]


async def test_http_a_server_that_refuses_before_it_has_read_the_body(http_side):
    """The answer counts although the request could not be sent to its end."""
    finished = asyncio.Event()

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await otlp_server.http_reply(413, b"too large", kind="text/plain")(writer)
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                await asyncio.sleep(0.001)
        writer.transport.abort()
        finished.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config = {"endpoint": endpoint, "compression": "none"}
        async with exporter_of(otlp_http, **config) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("x" * 3_000_000))
            assert await settled(agent) == {"rejected": 1}
        await finished.wait()
