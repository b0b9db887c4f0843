"""Real exporters before a backend that means harm: little memory, an end in time, a true count.

Each exporter is in a process of its own, so that its memory can be measured: its highest point over
all of them is less than 5 MiB above what it was before the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys

import pytest
import pytest_asyncio
from doubles import fault_proxy, hostile, hostile_sender, otlp_server

from otel_oom.pipeline.sending import limits

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOST_GROWN_KIB = 5 * 1024
TIMEOUT_S = 0.7
CUT_S = 0.3
TOKEN = "Bearer hostile-test"  # what must not follow a redirect
LONG_S = 60.0
WARM = 5

KIND = "Content-Type: application/x-protobuf\r\n"
WORDY = otlp_server.partial_success(1, "\N{SKULL}" * ((limits.MAX_RESPONSE_BYTES - 64) // 4))

REFUSED_HTTP = {
    "a gibibyte of error": hostile.http_body(400),
    "chunks of error without end": hostile.http_chunks(400),
    "an error without length or end": hostile.http_to_the_end(400),
    "a gibibyte of success": hostile.http_body(200),
    "chunks of success without end": hostile.http_chunks(200),
    "a success without length or end": hostile.http_to_the_end(200),
    "a bomb as error": hostile.http_bomb(400),
    "a bomb as success": hostile.http_bomb(200),
}
RETRIED_HTTP = {
    "a gibibyte of try again": hostile.http_body(503),
    "a bomb of try again": hostile.http_bomb(503),
    "headers without end": hostile.http_headers(),
    "interim answers without end": hostile.http_interim(),
    "a chunk's line without end": hostile.http_chunk_line(),
    "trailers without end": hostile.http_trailers(),
    "a byte of success a second": hostile.http_slow(200),
    "a byte of error a second": hostile.http_slow(503),
    "garbage": hostile.http2_garbage(),
}
REFUSED_GRPC = {
    "a bomb": hostile.grpc_bomb(),
    "a message of a gibibyte": hostile.grpc_message(),
}
RETRIED_GRPC = {
    "garbage": hostile.http2_garbage(),
    "HTTP/1.1": hostile.http_to_the_end(200),
    "pings without end": hostile.grpc_pings(),
}


class Sender:
    """The process."""

    def __init__(self, process):
        self._process = process

    async def tell(self, line):
        """One line there, one answer back."""
        self._process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(LONG_S):
            answer = await self._process.stdout.readline()
        assert answer, (await self._process.stderr.read()).decode()
        return json.loads(answer)


@contextlib.asynccontextmanager
async def sending(module, port):
    """A process that sends there, and has sent a few."""
    config = {
        "endpoint": f"http://127.0.0.1:{port}",
        "timeout": TIMEOUT_S,
        "headers": {"authorization": TOKEN},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", hostile_sender.__file__, module, json.dumps(config),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
    )  # fmt: skip
    sender = Sender(process)
    try:
        for _ in range(WARM):
            await sender.tell("send")
        await sender.tell("begin")
        yield sender
    finally:
        process.stdin.close()
        await process.communicate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides():
    """Each exporter's process, with the proxy before it and the server behind that."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for module, server in (
            ("otlp_http", otlp_server.HttpServer()),
            ("otlp_grpc", otlp_server.GrpcServer()),
        ):
            await stack.enter_async_context(otlp_server.serving(server))
            port = int(server.address.split(":")[1]) if module == "otlp_grpc" else server.port
            proxy = await stack.enter_async_context(fault_proxy.running(port))
            sender = await stack.enter_async_context(sending(module, proxy.port))
            found[module] = sender, proxy, server
        yield found


def cases(module, faults):
    return [pytest.param(module, fault, id=f"{module} {name}") for name, fault in faults.items()]


async def hostile_answer(side, fault, line):
    """What the process says of one request to a hostile backend, on a connection of its own."""
    sender, proxy, _ = side
    before = (await sender.tell("send"))["sum"]  # and its last word is that it sends
    proxy.fault = fault
    proxy.cut()
    await asyncio.sleep(CUT_S)  # gRPC finds out by itself, and connects again
    said = await sender.tell(line)
    proxy.fault = None
    print(f"grown by {said['grown_kib']} KiB")  # `pytest -rP` shows it
    return sender, before, said


@pytest.mark.parametrize(
    ("module", "fault"),
    [*cases("otlp_http", REFUSED_HTTP), *cases("otlp_grpc", REFUSED_GRPC)],
)
async def test_an_answer_that_is_final_is_counted_as_rejected(sides, module, fault):
    _, before, said = await hostile_answer(sides[module], fault, "send")

    assert said["sum"] == {**before, "rejected": before.get("rejected", 0) + 1}, said
    assert said["grown_kib"] < MOST_GROWN_KIB, said


@pytest.mark.parametrize(
    ("module", "fault"),
    [*cases("otlp_http", RETRIED_HTTP), *cases("otlp_grpc", RETRIED_GRPC)],
)
async def test_an_answer_that_is_none_ends_in_time_and_the_record_arrives(sides, module, fault):
    sender, before, said = await hostile_answer(sides[module], fault, "fail")
    after = await sender.tell("settle")

    assert said["sum"].get("held") == 1, said
    assert after["sum"] == {**before, "delivered": before["delivered"] + 1}
    assert said["grown_kib"] < MOST_GROWN_KIB, said


@pytest.mark.parametrize(
    ("module", "fault"),
    [
        pytest.param(
            "otlp_http",
            hostile.http_body(200, headers=KIND, size=len(WORDY), piece=WORDY),
            id="http",
        ),
        pytest.param("otlp_grpc", hostile.grpc_reply(WORDY), id="grpc"),
    ],
)
async def test_a_partial_success_that_talks_too_much_is_believed_and_cut(sides, module, fault):
    """As long as an answer may be, of characters that are as wide as Python has them."""
    _, before, said = await hostile_answer(sides[module], fault, "send")

    assert said["sum"] == {**before, "rejected": before.get("rejected", 0) + 1}, said
    assert said["grown_kib"] < MOST_GROWN_KIB, said
    assert len(said["said"][0]) < 1000


async def test_headers_without_end_are_counted_as_rejected():
    """RESOURCE_EXHAUSTED, which gRPC itself says. What memory that takes is not bounded: docs/retry.md."""
    server = otlp_server.GrpcServer()
    async with otlp_server.serving(server):
        port = int(server.address.split(":")[1])
        async with fault_proxy.running(port) as proxy, sending("otlp_grpc", proxy.port) as sender:
            side = sender, proxy, server
            _, before, said = await hostile_answer(side, hostile.grpc_headers(), "send")

    assert said["sum"] == {**before, "rejected": 1}, said


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_gets_neither_the_record_nor_the_token(sides, status):
    """Not even a connection."""
    elsewhere = otlp_server.HttpServer()
    async with otlp_server.serving(elsewhere):
        fault = hostile.http_redirect(status, f"{elsewhere.url}/v1/logs")
        _, before, said = await hostile_answer(sides["otlp_http"], fault, "send")

    assert said["sum"]["rejected"] == before.get("rejected", 0) + 1
    assert elsewhere.connections == 0
    assert "redirect" in said["said"][0]
    _, _, server = sides["otlp_http"]
    assert server.received[-1].headers["authorization"] == TOKEN
