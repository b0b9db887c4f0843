"""From the kernel to the real Grafana Tempo: spans by trace id and by TraceQL, each of its tenant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import collected, exporting, grafana_backend, grafana_told, keeping, tempo
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, TracesData

from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline import otlp
from otel_oom.pipeline.component import State
from otel_oom.pipeline.data import Batch, Signal

pytestmark = pytest.mark.go

TENANT, OTHER_TENANT = grafana_told.TENANT, grafana_told.OTHER_TENANT
TENANT_HEADER = {grafana_backend.TENANT_HEADER: TENANT}


def spans(found: TracesData | None) -> Iterator[tuple[ResourceSpans, Span]]:
    """Each span of an answer with its resource."""
    for resource in found.resource_spans if found else ():
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield resource, span


def by_id(server: tempo.Tempo, sent: collected.Found) -> list[tuple[ResourceSpans, Span]]:
    """What it has of this span, once it has any."""
    trace_id = sent.item.trace_id.hex()
    return collected.until(
        lambda: [
            (resource, span)
            for resource, span in spans(server.trace(trace_id, TENANT))
            if span.span_id == sent.item.span_id
        ],
        "the span",
    )


@pytest.mark.root
@pytest.mark.storage
def test_everything_was_delivered(told: grafana_told.Told) -> None:
    """To Loki, to Tempo and to the file that the other tests compare with."""
    assert told.stopped.status == 0, told.stopped.stderr
    for signal, found in (("logs", told.logs), ("traces", told.spans)):
        of = told.stopped.sums[signal]
        assert of["delivered"] == of["produced"] + of["copied"] == 2 * len(found)


@pytest.mark.root
@pytest.mark.storage
@pytest.mark.parametrize("what", ["of_the_kill", "of_a_sync"])
def test_a_span_is_whole_by_the_trace_id_of_its_log_record(
    what: str, told: grafana_told.Told, tempo_server: tempo.Tempo
) -> None:
    """Whoever has the log record has the trace."""
    log, sent = getattr(told, what)(told.logs), getattr(told, what)(told.spans)
    assert (log.item.trace_id, log.item.span_id) == (sent.item.trace_id, sent.item.span_id)
    [(resource, span)] = by_id(tempo_server, log)

    assert otlp.attributes(span.attributes) == sent.attributes
    assert otlp.attributes(resource.resource.attributes) == sent.resource
    for part in ("name", "kind", "start_time_unix_nano", "end_time_unix_nano", "status"):
        assert getattr(span, part) == getattr(sent.item, part)
    assert list(span.events) == list(sent.item.events)


@pytest.mark.root
@pytest.mark.storage
def test_another_tenant_has_none_of_it(told: grafana_told.Told, tempo_server: tempo.Tempo) -> None:
    sent = told.of_the_kill(told.spans)
    trace_id = sent.item.trace_id.hex()
    by_id(tempo_server, sent)

    assert tempo_server.trace(trace_id, OTHER_TENANT) is None
    with pytest.raises(grafana_backend.Refused, match="401"):
        tempo_server.trace(trace_id, "")


@pytest.mark.root
@pytest.mark.storage
@pytest.mark.parametrize("number", range(len(grafana_told.queries("traceql"))))
def test_a_query_of_the_page_finds_what_was_told(
    number: int, told: grafana_told.Told, tempo_server: tempo.Tempo
) -> None:
    """Each finds the kill or the slow fsync, and for another tenant nothing."""
    query = grafana_told.queries("traceql")[number]
    mine = {
        told.of_the_kill(told.spans).item.trace_id.hex(),
        told.of_a_sync(told.spans).item.trace_id.hex(),
    }
    start_s, end_s = told.began_ns // 10**9, told.ended_ns // 10**9 + 1

    def found(tenant: str) -> set[str]:
        traces = tempo_server.search(query, tenant, start_s, end_s)
        return {trace["traceID"].zfill(32) for trace in traces}

    collected.until(lambda: found(TENANT) & mine, query)
    assert found(OTHER_TENANT) == set()


def a_span() -> tuple[collected.Found, Batch]:
    """A span that nobody has, and the batch that carries it."""
    now_ns = time.time_ns()
    batch = exporting.spans("oom.kill")
    message: Any = batch.data
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
    span.start_time_unix_nano, span.end_time_unix_nano = now_ns - 10**6, now_ns
    return collected.Found(span, {}, {}, ""), batch


def endpoint_of(server: tempo.Tempo, module: Any) -> str:
    return server.http_endpoint if module is otlp_http else server.grpc_endpoint


async def send(server: tempo.Tempo, module: Any, batch: Batch, times: int = 1) -> dict[str, int]:
    """Send it so often by one of the exporters; the sum."""
    config = {"endpoint": endpoint_of(server, module), "headers": TENANT_HEADER}
    async with exporting.started(module, **config) as (agent, exporter):
        for _ in range(times):
            await agent.consume(exporter, batch)
            await exporting.settled(agent, Signal.TRACES)
        return agent.sum(Signal.TRACES)


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http], ids=["grpc", "http"])
async def test_it_takes_both_protocols(module: Any, tempo_server: tempo.Tempo) -> None:
    sent, batch = a_span()
    assert await send(tempo_server, module, batch) == {"delivered": 1}

    assert len(by_id(tempo_server, sent)) == 1


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http], ids=["grpc", "http"])
async def test_without_a_tenant_it_is_kept_and_tried_again(
    module: Any, tempo_server: tempo.Tempo
) -> None:
    """Tempo answers that it is unavailable, so that nothing is lost until the header is there."""
    sent, batch = a_span()
    endpoint = endpoint_of(tempo_server, module)
    async with exporting.started(module, endpoint=endpoint) as (agent, exporter):
        await agent.consume(exporter, batch)
        await keeping.until(lambda: State.RECOVERABLE_ERROR in agent.states())
        assert agent.sum(Signal.TRACES) == {"held": 1}

    assert tempo_server.trace(sent.item.trace_id.hex(), TENANT) is None


async def test_a_span_that_comes_twice_is_shown_once(tempo_server: tempo.Tempo) -> None:
    """As after a crash between the delivery and its removal from the queue."""
    sent, batch = a_span()
    assert await send(tempo_server, otlp_grpc, batch, times=2) == {"delivered": 2}

    assert len(by_id(tempo_server, sent)) == 1
