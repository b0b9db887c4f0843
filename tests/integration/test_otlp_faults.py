"""Both OTLP exporters through a network that fails and heals: all arrives, and the sum closes.

At least once: what the server had and could not confirm comes again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib

import pytest
from doubles import exporting, fault_proxy, otlp_server, otlp_sides

from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import AdaptiveConfig, RetryConfig

pytestmark = pytest.mark.usefixtures("no_proxies")

RECORDS = 12
SHORT_S = 0.4
RETRY = RetryConfig(
    initial_interval=0.01,
    max_interval=0.05,
    max_elapsed_time=0,
    adaptive=AdaptiveConfig(max_timeout=2.0),
)
LARGE = "x" * 100_000

FAULTS = {
    "refused": fault_proxy.refused,
    "black hole": fault_proxy.black_hole,
    "never read": fault_proxy.unread,
    "half-open": fault_proxy.half_open,
    "reset within the request": fault_proxy.reset_after(3000),
    "reset within the answer": fault_proxy.reset_answer_after(20),
    "slow bytes": fault_proxy.slow(0.01),
}


@contextlib.asynccontextmanager
async def through_a_proxy(module):
    """A started exporter, the proxy on its way, and the server behind it."""
    server = otlp_server.GrpcServer() if module is otlp_grpc else otlp_server.HttpServer()
    async with otlp_server.serving(server):
        port = int(server.address.split(":")[1]) if module is otlp_grpc else server.port
        async with (
            fault_proxy.running(port) as proxy,
            otlp_sides.exporter_of(
                module,
                endpoint=f"http://127.0.0.1:{proxy.port}",
                retry_on_failure=RETRY,
                timeout=SHORT_S,
                compression="none",
                sending_queue=QueueConfig(num_consumers=3),
            ) as (agent, exporter),
        ):
            yield agent, exporter, proxy, server


def arrived(server):
    """How often each record did."""
    return collections.Counter(
        record.event_name
        for one in server.received
        for resource in one.message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    )


@pytest.fixture(params=[otlp_grpc, otlp_http], ids=["grpc", "http"])
def module(request):
    return request.param


async def failing(agent):
    """Until the exporter says that it cannot send, with what it had still held."""
    while not agent.statuses:
        await asyncio.sleep(0.01)
    assert agent.sum()["held"] > 0


@pytest.mark.parametrize("name", FAULTS)
async def test_all_arrives_once_the_network_is_healed(module, name):
    async with through_a_proxy(module) as (agent, exporter, proxy, server):
        proxy.fault = FAULTS[name]
        names = [f"{number} {LARGE}" for number in range(RECORDS)]
        for one in names:
            await agent.consume(exporter, exporting.logs(one))
        await failing(agent)
        proxy.fault = None

        assert await exporting.settled(agent) == {"delivered": RECORDS}
        assert arrived(server).keys() == set(names)


@pytest.mark.parametrize("how", ["silence", "cut"])
async def test_a_connection_that_was_fine_and_breaks_is_replaced(module, how):
    """A silent one is the worst: nothing says that it is dead, and nothing ever comes of it."""
    async with through_a_proxy(module) as (agent, exporter, proxy, server):
        await agent.consume(exporter, exporting.logs("before"))
        await exporting.settled(agent)
        getattr(proxy, how)()
        await agent.consume(exporter, exporting.logs("after"))

        assert await exporting.settled(agent) == {"delivered": 2}
        assert arrived(server).keys() == {"before", "after"}
        assert proxy.connections >= 2
