"""Both OTLP exporters against a server that misbehaves: OTLP's rules, to the letter."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email.utils
import time
from typing import Any

import pytest
from doubles import exporting, otlp_server

from otel_oom import errors
from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.exporters.otlp_grpc.config import KeepaliveConfig
from otel_oom.pipeline.component import State
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig

FAST = RetryConfig(initial_interval=0.01, max_interval=0.02, max_elapsed_time=60)
ONE = QueueConfig(num_consumers=1)

RETRYABLE_CODES = {1, 4, 10, 11, 14, 15}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """No variable of the machine reaches an exporter under test."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextlib.asynccontextmanager
async def exporter_of(module, **config):
    """A started exporter in an agent; at the end the sum closes and nothing is held."""
    agent = exporting.Agent(module.FACTORY.type_name)
    values = {"retry_on_failure": FAST, "sending_queue": ONE, "timeout": 20.0, **config}
    exporter = module.FACTORY.create(agent.settings, module.Config(**values))
    await exporter.start()
    try:
        yield agent, exporter
    finally:
        await exporter.shutdown()
        assert "held" not in agent.sum()


@dataclasses.dataclass
class Grpc:
    """otlp_grpc and its server."""

    server: otlp_server.GrpcServer
    name = "grpc"
    module = otlp_grpc

    def config(self) -> dict[str, Any]:
        return {"endpoint": f"http://{self.server.address}"}

    def ok(self, body=b""):
        return otlp_server.grpc_reply(body)

    def unavailable(self):
        return otlp_server.grpc_status(14)

    def hang(self):
        return otlp_server.grpc_hang


@dataclasses.dataclass
class Http:
    """otlp_http and its server."""

    server: otlp_server.HttpServer
    encoding: str = "proto"
    name = "http"
    module = otlp_http

    def config(self) -> dict[str, Any]:
        return {"endpoint": self.server.url, "encoding": self.encoding}

    def ok(self, body=b""):
        return otlp_server.http_reply(200, body)

    def unavailable(self):
        return otlp_server.http_reply(503)

    def hang(self):
        return otlp_server.http_hang


@pytest.fixture
async def grpc_side():
    async with otlp_server.serving(otlp_server.GrpcServer()) as server:
        yield Grpc(server)


@pytest.fixture
async def http_side():
    async with otlp_server.serving(otlp_server.HttpServer()) as server:
        yield Http(server)


@pytest.fixture(params=["grpc", "http", "http_json"])
async def side(request):
    """Each transport in turn."""
    kind = otlp_server.GrpcServer if request.param == "grpc" else otlp_server.HttpServer
    async with otlp_server.serving(kind()) as server:
        if request.param == "grpc":
            yield Grpc(server)
        else:
            yield Http(server, "json" if request.param == "http_json" else "proto")


async def settled(agent, signal=Signal.LOGS):
    """Wait until nothing is held, and return the sum."""
    async with asyncio.timeout(30):
        while "held" in agent.sum(signal):
            await asyncio.sleep(0.005)
    return agent.sum(signal)


async def outcome(side, *script, batch=None, **config):
    """Send one batch against a script; the sum and the number of requests that arrived."""
    side.server.script[:] = script
    async with exporter_of(side.module, **{**side.config(), **config}) as (agent, exporter):
        await agent.consume(exporter, batch or exporting.logs("a", "b", "c"))
        return await settled(agent), len(side.server.received), agent


# --- what both must do ---------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_every_signal_arrives_as_it_was_sent(side, compression):
    batches = [exporting.logs("a", "b"), exporting.spans("c"), exporting.points(1, 2, 3)]
    config = {**side.config(), "compression": compression}
    async with exporter_of(side.module, **config) as (agent, exporter):
        for batch in batches:
            await agent.consume(exporter, batch)
            assert await settled(agent, batch.signal) == {"delivered": batch.items}

    sent = [batch.data.SerializeToString(deterministic=True) for batch in batches]
    arrived = [r.message.SerializeToString(deterministic=True) for r in side.server.received]
    assert arrived == sent
    assert [r.signal for r in side.server.received] == ["logs", "traces", "metrics"]


async def test_headers_and_the_agents_name_are_sent(side):
    headers = {"X-Api-Key": "s3cret"}
    await outcome(side, headers=headers)

    arrived = side.server.received[0].headers
    assert arrived["x-api-key"] == "s3cret"
    assert arrived["user-agent"].startswith("otel-oom/1.2.3")


async def test_partial_success_is_counted_as_rejected_and_never_retried(side):
    body = otlp_server.partial_success(2, "two are too old")
    sums, requests, agent = await outcome(side, side.ok(body))

    assert (sums, requests) == ({"delivered": 1, "rejected": 2}, 1)
    assert "two are too old" in agent.statuses[0].detail


async def test_a_warning_without_a_rejection_is_delivered(side, caplog):
    sums, requests, _ = await outcome(side, side.ok(otlp_server.partial_success(0, "slow down")))

    assert (sums, requests) == ({"delivered": 3}, 1)
    assert "slow down" in caplog.text


async def test_a_success_whose_body_is_garbage_is_rejected_and_not_sent_again(side):
    sums, requests, agent = await outcome(side, side.ok(b"\xff\xff garbage"))

    assert (sums, requests) == ({"rejected": 3}, 1)
    assert "no OTLP" in agent.statuses[0].detail


async def test_a_success_with_a_huge_body_is_rejected_and_not_read(side):
    body = b"\x00" * (limits.MAX_RESPONSE_BYTES + 1)
    sums, requests, _ = await outcome(side, side.ok(body))

    assert (sums, requests) == ({"rejected": 3}, 1)


async def test_a_server_that_hangs_is_tried_again_after_the_timeout(side):
    sums, requests, _ = await outcome(side, side.hang(), side.ok(), timeout=0.2)

    assert (sums, requests) == ({"delivered": 3}, 2)


async def test_a_server_that_is_not_there_yet_gets_it_when_it_is(side):
    port = side.server.port if side.name == "http" else int(side.server.address.split(":")[1])
    config = side.config()
    await side.server.stop()
    async with exporter_of(side.module, **config) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        while State.RECOVERABLE_ERROR not in agent.states():
            await asyncio.sleep(0.005)
        assert agent.sum() == {"held": 1}
        await side.server.start(None, port)
        assert await settled(agent) == {"delivered": 1}
        assert agent.states()[-1] is State.OK


async def test_a_name_that_does_not_resolve_is_tried_again(side):
    endpoint = "http://nowhere.invalid:4317"
    config = {"endpoint": endpoint, "retry_on_failure": RetryConfig(enabled=False)}
    sums, _, agent = await outcome(side, **config)

    assert sums == {"retries_exhausted": 3}
    assert "nowhere.invalid" in agent.statuses[0].detail


async def test_shutdown_does_not_wait_for_a_server_that_hangs(side):
    side.server.script[:] = [side.hang()] * 9
    async with exporter_of(
        side.module,
        **side.config(),
    ) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await agent.consume(exporter, exporting.logs("b"))
        await side.server.wait_for(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await exporter.shutdown()

        assert agent.sum() == {"shutdown": 2}


async def test_at_shutdown_each_request_has_one_last_try(side):
    side.server.script[:] = [side.unavailable()] * 9
    slow = RetryConfig(initial_interval=100)
    config = {**side.config(), "retry_on_failure": slow}
    async with exporter_of(side.module, **config) as (agent, exporter):
        for name in "abc":
            await agent.consume(exporter, exporting.logs(name))
        while not agent.statuses:
            await asyncio.sleep(0.005)
        await exporter.shutdown()

        assert agent.sum() == {"shutdown": 3}
        assert len(side.server.received) == 4


async def test_many_requests_at_once_all_arrive(side):
    config = {**side.config(), "sending_queue": QueueConfig(num_consumers=10)}
    async with exporter_of(side.module, **config) as (agent, exporter):
        for index in range(200):
            await agent.consume(exporter, exporting.logs(str(index)))
        assert await settled(agent) == {"delivered": 200}

    names = [
        record.event_name
        for received in side.server.received
        for record in received.message.resource_logs[0].scope_logs[0].log_records
    ]
    assert sorted(names, key=int) == [str(index) for index in range(200)]


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http])
async def test_shutdown_is_safe_before_the_start_and_twice(module):
    agent = exporting.Agent()
    exporter = module.FACTORY.create(agent.settings, module.Config())

    await exporter.shutdown()
    await exporter.shutdown()


# --- gRPC ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", range(1, 17))
async def test_grpc_codes(grpc_side, code):
    sums, requests, agent = await outcome(grpc_side, otlp_server.grpc_status(code, "on purpose"))

    retried = code in RETRYABLE_CODES
    assert (sums, requests) == (({"delivered": 3}, 2) if retried else ({"rejected": 3}, 1))
    assert "on purpose" in agent.statuses[0].detail


@pytest.mark.parametrize("code", range(1, 17))
async def test_grpc_codes_with_retry_info(grpc_side, code):
    step = otlp_server.grpc_status(code, retry_s=0.01)
    sums, requests, _ = await outcome(grpc_side, step)

    retried = code in RETRYABLE_CODES | {8}
    assert (sums, requests) == (({"delivered": 3}, 2) if retried else ({"rejected": 3}, 1))


async def test_grpc_retry_info_beyond_the_time_left_gives_up(grpc_side):
    sums, requests, _ = await outcome(grpc_side, otlp_server.grpc_status(14, retry_s=3600.0))

    assert (sums, requests) == ({"retries_exhausted": 3}, 1)


async def test_grpc_details_that_are_garbage_are_no_retry_info(grpc_side):
    step = otlp_server.grpc_status(8, details=b"\xff\xfe")

    assert (await outcome(grpc_side, step))[0] == {"rejected": 3}


async def test_grpc_a_long_error_text_keeps_its_code_and_is_cut(grpc_side):
    step = otlp_server.grpc_status(14, "x" * 30_000)
    sums, requests, agent = await outcome(grpc_side, step)

    assert (sums, requests) == ({"delivered": 3}, 2)
    assert len(agent.statuses[0].detail) < 1000


async def test_grpc_a_server_that_closes_within_the_call(grpc_side):
    server = grpc_side.server
    server.script[:] = [otlp_server.grpc_hang]
    async with exporter_of(otlp_grpc, **grpc_side.config()) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await server.wait_for(1)
        port = int(server.address.split(":")[1])
        await server.stop()
        await server.start(None, port)

        assert await settled(agent) == {"delivered": 1}


async def test_grpc_over_a_unix_socket(tmp_path):
    server = otlp_server.GrpcServer()
    await server.start(None, 0, f"unix:{tmp_path}/otlp.sock".removesuffix(":0"))
    try:
        endpoint = server.address
        async with exporter_of(otlp_grpc, endpoint=endpoint) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))
            assert await settled(agent) == {"delivered": 1}
    finally:
        await server.stop()


async def test_grpc_with_keepalive_and_waiting_for_the_connection(grpc_side):
    config = {"wait_for_ready": True, "keepalive": KeepaliveConfig()}
    port = int(grpc_side.server.address.split(":")[1])
    await grpc_side.server.stop()
    async with exporter_of(otlp_grpc, **grpc_side.config(), **config) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(0.05)
        await grpc_side.server.start(None, port)

        assert await settled(agent) == {"delivered": 1}
        assert agent.statuses == []


# --- HTTP ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*range(400, 432), 451, *range(500, 512), 599])
async def test_http_statuses(http_side, status):
    sums, requests, _ = await outcome(http_side, otlp_server.http_reply(status))

    retried = status in {429, 502, 503, 504}
    assert (sums, requests) == (({"delivered": 3}, 2) if retried else ({"rejected": 3}, 1))


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_http_any_success_is_taken(http_side, status):
    assert (await outcome(http_side, otlp_server.http_reply(status)))[:2] == ({"delivered": 3}, 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_http_redirects_are_not_followed(http_side, status):
    step = otlp_server.http_reply(status, headers={"Location": "http://elsewhere.invalid/v1/logs"})
    sums, requests, agent = await outcome(http_side, step)

    assert (sums, requests) == ({"rejected": 3}, 1)
    assert "http://elsewhere.invalid/v1/logs" in agent.statuses[0].detail


@pytest.mark.parametrize("status", [429, 503])
async def test_http_retry_after_in_seconds_beyond_the_time_left_gives_up(http_side, status):
    step = otlp_server.http_reply(status, headers={"Retry-After": "1000000000"})

    assert (await outcome(http_side, step))[:2] == ({"retries_exhausted": 3}, 1)


@pytest.mark.parametrize("status", [429, 503])
async def test_http_retry_after_as_a_date_beyond_the_time_left_gives_up(http_side, status):
    date = email.utils.formatdate(time.time() + 7200, usegmt=True)
    step = otlp_server.http_reply(status, headers={"Retry-After": date})

    assert (await outcome(http_side, step))[:2] == ({"retries_exhausted": 3}, 1)


@pytest.mark.parametrize("value", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "1e9", ""])
async def test_http_retry_after_that_asks_for_no_delay(http_side, value):
    step = otlp_server.http_reply(503, headers={"Retry-After": value})

    assert (await outcome(http_side, step))[:2] == ({"delivered": 3}, 2)


@pytest.mark.parametrize("status", [502, 504])
async def test_http_retry_after_counts_only_where_otlp_defines_it(http_side, status):
    step = otlp_server.http_reply(status, headers={"Retry-After": "1000000000"})

    assert (await outcome(http_side, step))[:2] == ({"delivered": 3}, 2)


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
    assert "4194304" in agent.statuses[0].detail


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (otlp_server.status_details(3, "no such tenant"), "application/x-protobuf"),
        (b'{"code":3,"message":"no such tenant"}', "application/json; charset=utf-8"),
        (b"no such\r\n\x1b[31m tenant", "text/plain"),
        (b"no such tenant \xff", "application/json"),
    ],
    ids=["protobuf", "json", "text with an escape", "broken json"],
)
async def test_http_the_servers_reason_is_shown_on_one_clean_line(http_side, body, kind):
    _, _, agent = await outcome(http_side, otlp_server.http_reply(400, body, kind=kind))

    detail = agent.statuses[0].detail
    assert detail.startswith("the server answered 400: no such")
    assert "tenant" in detail
    assert detail.isprintable()


async def test_http_a_page_of_a_portal_is_no_success(http_side):
    step = otlp_server.http_reply(200, b"<html>log in</html>", kind="text/html")
    sums, _, agent = await outcome(http_side, step)

    assert sums == {"rejected": 3}
    assert "text/html" in agent.statuses[0].detail


@pytest.mark.parametrize("count", ['"2"', "2"])
async def test_http_partial_success_in_json(http_side, count):
    body = b'{"partialSuccess":{"rejectedLogRecords":%s,"errorMessage":"old"}}' % count.encode()
    step = otlp_server.http_reply(200, body, kind="application/json")

    assert (await outcome(http_side, step))[:2] == ({"delivered": 1, "rejected": 2}, 1)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"partialSuccess":7}', b"[" * 100_000])
async def test_http_a_json_answer_that_is_no_otlp_is_rejected(http_side, body):
    step = otlp_server.http_reply(200, body, kind="application/json")

    assert (await outcome(http_side, step))[:2] == ({"rejected": 3}, 1)


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


# --- both again: refusals at the start -----------------------------------------------------


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http])
@pytest.mark.parametrize(
    "name",
    ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_HEADERS"],
)
async def test_a_bad_variable_is_named(module, name, monkeypatch):
    monkeypatch.setenv(name, "so lala")

    with pytest.raises(errors.ComponentError, match=name):
        module.FACTORY.create(exporting.Agent().settings, module.Config())
