"""The `health_check` extension over real sockets: its answers, and requests that are none."""

import asyncio
import contextlib
import json
import socket

import pytest
from doubles import sink

from otel_oom import errors
from otel_oom.extensions import health_check
from otel_oom.extensions.health_check import Config, ResponseBody, split_endpoint
from otel_oom.pipeline.component import State, Status
from otel_oom.pipeline.data import Signal

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def running(**options):
    bench = sink.Bench()
    config = Config(**{"endpoint": f"{HOST}:0"} | options)
    server = health_check.FACTORY.create(bench.settings("health_check"), config)
    await server.start()
    try:
        yield server, bench
    finally:
        await server.shutdown()


async def exchange(server, request):
    """Send bytes and return all that comes back."""
    reader, writer = await asyncio.open_connection(HOST, server.port)
    try:
        async with asyncio.timeout(10):
            writer.write(request)
            await writer.drain()
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def get(server, path="/", method="GET"):
    """Return (status, headers, body) of an answer."""
    answer = await exchange(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ") for line in rest), body


def own_address():
    """Of the interface that a packet to the outside would leave by; none is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("needs a network interface besides loopback: add one with a default route")
        return probe.getsockname()[0]


async def test_before_everything_runs_the_answer_is_503():
    async with running() as (server, _):
        status, headers, body = await get(server)

    assert status == 503
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {
        "status": "Server not available",
        "upSince": "0001-01-01T00:00:00Z",
        "uptime": "",
    }


async def test_when_everything_runs_the_answer_is_200_with_the_time_of_the_start():
    async with running() as (server, bench):
        bench.board.set_running(running=True)
        status, _, body = await get(server)

    answer = json.loads(body)
    assert (status, answer["status"]) == (200, "Server available")
    assert answer["upSince"].endswith("Z")
    assert float(answer["uptime"].removesuffix("s")) >= 0


@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.RECOVERABLE_ERROR, 200), (State.PERMANENT_ERROR, 503), (State.FATAL_ERROR, 503)],
)
async def test_only_a_component_that_failed_for_good_makes_the_agent_unavailable(state, expected):
    async with running() as (server, bench):
        bench.board.set_running(running=True)
        bench.board.report("receivers/oom", Status(state, "why"))

        assert (await get(server))[0] == expected


async def test_fixed_bodies_replace_the_json():
    fixed = ResponseBody(healthy="fine", unhealthy="ill")
    async with running(response_body=fixed) as (server, bench):
        assert (await get(server))[2] == b"ill"
        bench.board.set_running(running=True)
        assert (await get(server))[2] == b"fine"


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ("/", "/health/status", 503),
        ("/", "/?verbose", 503),
        ("/health", "/health", 503),
        ("/health", "/health/status", 404),
        ("/health", "/", 404),
    ],
)
async def test_the_path_is_configurable_as_in_the_collector(own, asked, expected):
    async with running(path=own) as (server, _):
        assert (await get(server, asked))[0] == expected


async def test_head_has_no_body_and_other_methods_are_refused():
    async with running() as (server, _):
        status, headers, body = await get(server, method="HEAD")
        assert (status, body) == (503, b"")
        assert int(headers["Content-Length"]) > 0
        status, headers, _ = await get(server, method="POST")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


async def test_telemetry_is_the_ledger_and_the_components_as_json():
    async with running() as (server, bench):
        bench.ledger.produced("oom", Signal.LOGS, 3)
        bench.ledger.dropped("batch", Signal.LOGS, 1, "queue_full")
        bench.ledger.gauge("exporter_queue_size", "otlp_grpc", lambda: 7)
        bench.board.report("receivers/oom", Status(State.OK, "mode core"))
        status, _, body = await get(server, "/telemetry")

    answer = json.loads(body)
    found = {one["name"]: one for one in answer["metrics"]}
    accepted = found["otel_oom_receiver_accepted_log_records"]
    assert status == 200
    assert (accepted["value"], accepted["attributes"]) == (3, {"receiver": "oom"})
    assert found["otel_oom_dropped"]["attributes"]["reason"] == "queue_full"
    assert found["otel_oom_exporter_queue_size"]["value"] == 7
    assert found["otel_oom_process_memory_rss"]["value"] > 0
    assert answer["components"]["receivers/oom"] == {"status": "StatusOK", "detail": "mode core"}


async def test_views_are_those_that_components_offer_made_when_asked_for():
    made = []
    async with running() as (server, bench):
        bench.views.offer("storage", lambda: made.append(1) or {"view": "storage", "lost": 0})
        bench.board.set_running(running=True)
        assert made == []
        status, headers, body = await get(server, "/views")
        bench.views.withdraw("storage")
        after = json.loads((await get(server, "/views"))[2])

    answer = json.loads(body)
    assert (status, headers["Content-Type"], made) == (200, "application/json", [1])
    assert answer["views"] == {"storage": {"view": "storage", "lost": 0}}
    assert (answer["version"], answer["ready"]) == ("0.0.0", True)
    assert answer["uptime_s"] >= 0
    assert after["views"] == {}


async def test_views_can_be_switched_off():
    async with running(views=False, path="/health") as (server, _):
        assert (await get(server, "/views"))[0] == 404


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.8.8", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("192.0.2.7", 1), False),
        (("::ffff:192.0.2.7", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        (None, False),
    ],
)
def test_views_are_for_this_host_only(peer, expected):
    assert health_check._is_loopback(peer) is expected


async def test_who_asks_from_elsewhere_gets_no_views():
    """Over a real socket, from an address of this host that is not loopback."""
    address = own_address()
    async with running(endpoint="0.0.0.0:0") as (server, _):
        reader, writer = await asyncio.open_connection(address, server.port)
        writer.write(b"GET /views HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / SPDY/3\r\n\r\n",
        b"\xff\xfe\x00 / HTTP/1.1\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_with_400(garbage):
    async with running() as (server, _):
        assert (await exchange(server, garbage)).startswith(b"HTTP/1.1 400 ")
        assert (await get(server))[0] == 503


async def test_a_huge_request_is_cut_off_and_the_next_one_answered():
    async with running() as (server, _):
        answer = await exchange(server, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
        assert (await get(server))[0] == 503


async def test_a_head_just_above_the_bound_is_told_so():
    async with running() as (server, _):
        answer = await exchange(server, b"GET / HTTP/1.1\r\nX: " + b"y" * 8192)
        assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_request_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(health_check, "_REQUEST_TIMEOUT_S", 0.01)
    async with running() as (server, _):
        assert await exchange(server, b"GET / HTTP/1.1\r\n") == b""


async def test_a_client_that_leaves_in_the_middle_harms_nothing():
    async with running() as (server, _):
        _, writer = await asyncio.open_connection(HOST, server.port)
        writer.write(b"GET / HT")
        writer.close()
        await writer.wait_closed()

        assert (await get(server))[0] == 503


async def test_open_connections_are_bounded(monkeypatch):
    monkeypatch.setattr(health_check, "_MAX_CONNECTIONS", 3)
    async with running() as (server, _):
        idle = [await asyncio.open_connection(HOST, server.port) for _ in range(3)]
        while len(server._connections) < 3:
            await asyncio.sleep(0)
        assert await exchange(server, b"GET / HTTP/1.1\r\n\r\n") == b""
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        while server._connections:
            await asyncio.sleep(0.001)
        assert (await get(server))[0] == 503


async def test_the_stop_breaks_off_open_connections():
    async with running() as (server, _):
        reader, writer = await asyncio.open_connection(HOST, server.port)
        while not server._connections:
            await asyncio.sleep(0)
        await server.shutdown()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_a_port_in_use_is_one_clear_error_that_names_the_key():
    async with running() as (server, _):
        endpoint = f"{HOST}:{server.port}"
        with pytest.raises(errors.ComponentError, match=r"`endpoint`") as caught:
            async with running(endpoint=endpoint):
                pass

    assert endpoint in str(caught.value)


async def test_a_host_that_does_not_exist_is_a_clear_error():
    with pytest.raises(errors.ComponentError, match=r"`endpoint`"):
        async with running(endpoint="no.such.host.invalid:0"):
            pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:2", ("::1", 2)),
        (":3", (None, 3)),
        ("localhost:13133", ("localhost", 13133)),
    ],
)
def test_endpoints_are_host_and_port(text, expected):
    assert split_endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:70000", "host:-1", "h:²"])
def test_what_is_no_endpoint_is_refused_with_its_key(text):
    ((path, message),) = Config(endpoint=text).validate()

    assert (path, "`endpoint`" in message) == (("endpoint",), True)


def test_a_path_begins_with_a_slash():
    ((path, message),) = Config(path="health").validate()

    assert (path, "`path`" in message) == (("path",), True)
