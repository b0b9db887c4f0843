"""`otlp_grpc` against a server that misbehaves: OTLP's rules of gRPC, to the letter."""

from __future__ import annotations

import asyncio

import pytest
from doubles import exporting, otlp_server
from doubles.exporting import settled
from doubles.otlp_sides import exporter_of, outcome
from opentelemetry.exporter.otlp.proto.grpc import exporter as official

from otel_oom.exporters import otlp_grpc
from otel_oom.pipeline.otlp import status as otlp_status

RETRYABLE_CODES = {1, 4, 10, 11, 14, 15}

pytestmark = pytest.mark.usefixtures("no_proxies")


def test_the_official_exporter_tries_the_same_codes_again():
    """It also does RESOURCE_EXHAUSTED without a RetryInfo, which OTLP's table does not."""
    theirs = {code.value[0] for code in official._RETRYABLE_ERROR_CODES}

    assert otlp_status.RETRYABLE_GRPC_CODES == RETRYABLE_CODES
    assert theirs - {otlp_status.RESOURCE_EXHAUSTED} == RETRYABLE_CODES


async def test_grpc_code_0_is_taken(grpc_side):
    assert (await outcome(grpc_side, grpc_side.ok()))[:2] == ({"delivered": 3}, 1)


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


async def test_grpc_retry_info_is_waited_for(grpc_side):
    """RESOURCE_EXHAUSTED, which is tried again only because the server says when."""
    grpc_side.server.script[:] = [otlp_server.grpc_status(8, retry_s=1.5)]
    async with exporter_of(otlp_grpc, **grpc_side.config()) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await grpc_side.server.wait_for(1)
        answered_s = asyncio.get_running_loop().time()

        assert await settled(agent) == {"delivered": 1}
        assert asyncio.get_running_loop().time() - answered_s >= 1.5


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
    config = {"wait_for_ready": True, "keepalive": otlp_grpc.config.KeepaliveConfig()}
    port = int(grpc_side.server.address.split(":")[1])
    await grpc_side.server.stop()
    async with exporter_of(otlp_grpc, **grpc_side.config(), **config) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        await asyncio.sleep(0.05)
        await grpc_side.server.start(None, port)

        assert await settled(agent) == {"delivered": 1}
        assert agent.statuses == []
