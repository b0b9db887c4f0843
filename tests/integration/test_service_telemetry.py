"""The agent's own metrics leave through the official exporters, to real OTLP servers."""

import asyncio

import pytest
from doubles import otlp_server, virtual_loop

from otel_oom import telemetry
from otel_oom.telemetry import Destination, Exporter, LoopLag, Measurement

READING = [
    Measurement(
        "otel_oom_dropped",
        3,
        (("component", "batch"), ("reason", "queue_full")),
        "{item}",
        "counter",
    ),
    Measurement(
        "otel_oom_dropped", 4, (("component", "batch"), ("reason", "shutdown")), "{item}", "counter"
    ),
    Measurement("otel_oom_process_memory_rss", 1024, unit="By"),
]


def exporter(endpoint, protocol, read=lambda: READING, **options):
    destination = Destination(endpoint=endpoint, protocol=protocol, **options)
    return Exporter(read, destination, interval_s=0.05, resource={"service.name": "otel-oom"})


def metrics(received):
    """Name -> {attributes: value} of one request."""
    return {
        metric.name: {
            tuple(pair.value.string_value for pair in point.attributes): point.as_int
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        }
        for resource in received.message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_every_interval_the_readings_arrive_with_their_attributes(protocol):
    grpc = protocol == "grpc"
    async with otlp_server.serving(
        otlp_server.GrpcServer() if grpc else otlp_server.HttpServer()
    ) as server:
        endpoint = f"http://{server.address}" if grpc else server.url
        sending = exporter(endpoint, protocol, headers={"x-tenant": "a"})
        sending.start()
        async with asyncio.timeout(20):
            await server.wait_for(2)
        await sending.shutdown()

    first = server.received[0]
    assert metrics(first)["otel_oom_dropped"] == {
        ("batch", "queue_full"): 3,
        ("batch", "shutdown"): 4,
    }
    assert metrics(first)["otel_oom_process_memory_rss"] == {(): 1024}
    assert first.headers["x-tenant"] == "a"
    assert len(server.received) >= 3  # the last one at the stop


async def test_a_name_that_appears_later_is_exported_from_then_on():
    read = [READING[2]]
    async with otlp_server.serving(otlp_server.HttpServer()) as server:
        sending = exporter(server.url, "http/protobuf", read=lambda: list(read))
        sending.start()
        async with asyncio.timeout(20):
            await server.wait_for(1)
            read.append(READING[0])
            while "otel_oom_dropped" not in metrics(server.received[-1]):
                await server.wait_for(len(server.received) + 1)
        await sending.shutdown()


async def test_a_server_that_is_down_does_not_hold_up_the_stop(monkeypatch):
    monkeypatch.setattr(telemetry, "_LAST_EXPORT_S", 0.01)
    async with otlp_server.serving(otlp_server.HttpServer()) as server:
        server.script = [otlp_server.http_hang]
        sending = exporter(server.url, "http/protobuf")
        sending.start()
        await server.wait_for(1)
        async with asyncio.timeout(5):
            await sending.shutdown()
            await sending.shutdown()
        assert len(server.received) == 1


async def test_the_environment_names_the_endpoint_where_the_config_does_not(monkeypatch):
    async with otlp_server.serving(otlp_server.HttpServer()) as server:
        monkeypatch.setenv(telemetry.ENDPOINT_VARIABLE, f"{server.url}/own/metrics")
        sending = exporter(None, "http/protobuf")
        sending.start()
        async with asyncio.timeout(20):
            await server.wait_for(1)
        await sending.shutdown()

    assert server.received[0].path == "/own/metrics"


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("http://h:4318", "http://h:4318/v1/metrics"),
        ("http://h:4318/", "http://h:4318/v1/metrics"),
        ("http://h:4318/v1/metrics", "http://h:4318/v1/metrics"),
        ("https://h/otlp/m?x=1", "https://h/otlp/m?x=1"),
    ],
)
def test_a_bare_url_gets_the_path_of_otlp_over_http(url, used):
    assert telemetry._with_metrics_path(url) == used


def test_the_lag_of_the_loop_is_what_a_busy_callback_costs_the_timers():
    async def scenario():
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(2.5)
        quiet = lag.read()
        loop = asyncio.get_running_loop()
        loop.call_later(2.4, lambda: setattr(loop._virtual, "now_s", loop.time() + 3.0))
        await asyncio.sleep(10)
        lag.stop()
        return quiet, lag.read()

    quiet, busy = virtual_loop.run(scenario())
    assert quiet == 0
    assert busy == pytest.approx(2.9)
