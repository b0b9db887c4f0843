"""From the kernel to the real Grafana Loki: log records by label and by structured metadata."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import sqlite3
import time
import uuid
from typing import Any

import pytest
from doubles import collected, exporting, grafana_backend, grafana_told, keeping, loki
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_oom.exporters import otlp_http
from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.sending.queue import QueueConfig

pytestmark = pytest.mark.go

TENANT, OTHER_TENANT = grafana_told.TENANT, grafana_told.OTHER_TENANT
TENANT_HEADER = {grafana_backend.TENANT_HEADER: TENANT}
S = 10**9
DAY_NS = 24 * 3600 * S
ADDED = {"detected_level", "observed_timestamp", "severity_number", "severity_text", "scope_name",
         "scope_version", "span_id", "trace_id"}  # fmt: skip
"""What Loki makes of a record's own fields."""


def by_trace_id(server: loki.Loki, told: grafana_told.Told, log: collected.Found) -> loki.Line:
    """The line of a record, found as from a trace."""
    query = f'{{service_name=~".+"}} | trace_id="{log.item.trace_id.hex()}"'
    found = collected.until(
        lambda: server.lines(query, TENANT, told.began_ns, told.ended_ns), "the line"
    )
    [line] = [one for one in found if one.metadata["span_id"] == log.item.span_id.hex()]
    return line


@pytest.mark.root
@pytest.mark.storage
@pytest.mark.parametrize("what", ["of_the_kill", "of_a_sync"])
def test_a_record_is_whole_by_the_trace_id_of_its_span(
    what: str, told: grafana_told.Told, loki_server: loki.Loki
) -> None:
    """Every attribute is there, under its name with `_` for what is no letter and no digit."""
    log, span = getattr(told, what)(told.logs), getattr(told, what)(told.spans)
    assert (log.item.trace_id, log.item.span_id) == (span.item.trace_id, span.item.span_id)
    line = by_trace_id(loki_server, told, log)

    record: LogRecord = log.item
    assert line.time_ns == record.time_unix_nano
    assert line.text == otlp.python_value(record.body)
    assert set(line.labels) == {"service_name"}
    sent = grafana_told.flat(log.resource) | grafana_told.flat(log.attributes)
    others = {
        key: (line.metadata.get(key), value)
        for key, value in sent.items()
        if not grafana_told.is_text_of(line.metadata.get(key), value)
    }
    assert not others
    assert set(line.metadata) - set(sent) == ADDED
    assert line.metadata["severity_text"] == record.severity_text
    assert line.metadata["observed_timestamp"] == str(record.observed_time_unix_nano)


@pytest.mark.root
@pytest.mark.storage
def test_another_tenant_has_none_of_it(told: grafana_told.Told, loki_server: loki.Loki) -> None:
    query, times = '{service_name=~".+"}', (told.began_ns, told.ended_ns)
    by_trace_id(loki_server, told, told.of_the_kill(told.logs))

    assert len(loki_server.lines(query, TENANT, *times)) >= len(told.logs)
    assert loki_server.lines(query, OTHER_TENANT, *times) == []
    with pytest.raises(grafana_backend.Refused, match="401"):
        loki_server.lines(query, "", *times)


@pytest.mark.root
@pytest.mark.storage
@pytest.mark.parametrize("number", range(len(grafana_told.queries("logql"))))
def test_a_query_of_the_page_finds_what_was_told(
    number: int, told: grafana_told.Told, loki_server: loki.Loki
) -> None:
    """Each finds the kill or the slow fsync, and for another tenant nothing."""
    log = told.of_the_kill(told.logs)
    query = grafana_told.queries("logql")[number].replace("<trace id>", log.item.trace_id.hex())
    mine = {one.item.time_unix_nano for one in (log, told.of_a_sync(told.logs))}
    times = told.began_ns, told.ended_ns

    found = collected.until(lambda: loki_server.lines(query, TENANT, *times), query)
    assert mine & {line.time_ns for line in found}
    assert loki_server.lines(query, OTHER_TENANT, *times) == []


def some_logs(*texts: str, age_ns: int = 0, **resource: str) -> Batch:
    """Records of now, 1 ns apart, or so long ago."""
    batch = exporting.logs(*texts, resource=f"test-{uuid.uuid4().hex}")
    message: Any = batch.data
    message.resource_logs[0].resource.attributes.extend(otlp.key_values(resource))
    records = message.resource_logs[0].scope_logs[0].log_records
    for time_ns, record in zip(itertools.count(time.time_ns() - age_ns), records, strict=False):
        record.time_unix_nano = time_ns
    return batch


async def send(server: loki.Loki, *batches: Batch) -> dict[str, int]:
    """Send them one after the other; the sum."""
    async with exporting.started(otlp_http, endpoint=server.endpoint, headers=TENANT_HEADER) as (
        agent,
        exporter,
    ):
        for batch in batches:
            await agent.consume(exporter, batch)
            await exporting.settled(agent)
        return agent.sum()


def lines(server: loki.Loki, batch: Batch) -> list[loki.Line]:
    """What it has of the batch's resource in the last eight days."""
    message: Any = batch.data
    attributes = otlp.attributes(message.resource_logs[0].resource.attributes)
    query, now_ns = f'{{service_name="{attributes["service.name"]}"}}', time.time_ns()
    return [
        line
        for day in range(8)
        for line in server.lines(
            query, TENANT, now_ns - (day + 1) * DAY_NS, now_ns - day * DAY_NS + S
        )
    ]


async def test_which_attributes_of_a_resource_are_labels(loki_server: loki.Loki) -> None:
    """What the page says of a pod's record."""
    of_pod = {
        "k8s.namespace.name": "shop", "k8s.pod.name": "cart-0", "k8s.container.name": "cart",
        "k8s.statefulset.name": "cart", "service.namespace": "shop", "service.instance.id": "1",
    }  # fmt: skip
    others = {"k8s.pod.uid": "u", "k8s.node.name": "n", "host.name": "h", "container.id": "c",
              "process.linux.cgroup": "/kubepods/x"}  # fmt: skip
    batch = some_logs("a", **of_pod, **others)
    assert await send(loki_server, batch) == {"delivered": 1}

    [line] = lines(loki_server, batch)
    assert line.labels.items() >= grafana_told.flat(of_pod).items()
    assert line.metadata.items() >= grafana_told.flat(others).items()
    assert set(line.labels) == {*grafana_told.flat(of_pod), "service_name"}


async def test_a_record_that_comes_twice_is_there_once(loki_server: loki.Loki) -> None:
    """As after a crash between the delivery and its removal from the queue: the same bytes again."""
    batch = some_logs("a", "b")
    assert await send(loki_server, batch, batch) == {"delivered": 4}

    assert [line.text for line in lines(loki_server, batch)] == ["record a", "record b"]


async def test_it_is_there_once_though_the_first_was_flushed_between(
    loki_server: loki.Loki,
) -> None:
    """As after an outage: Loki then has it in two chunks, and shows it once."""
    batch = some_logs("a")
    later: Any = batch.copy()
    later.data.resource_logs[0].scope_logs[0].log_records[0].time_unix_nano += 1
    assert await send(loki_server, batch, later) == {"delivered": 2}
    loki_server.flush()
    assert await send(loki_server, batch) == {"delivered": 1}

    assert len(lines(loki_server, batch)) == 2


async def test_two_records_of_one_time_that_differ_are_both_there(loki_server: loki.Loki) -> None:
    """The same words at the same nanosecond, of two processes."""
    batch = some_logs("a", "a")
    message: Any = batch.data
    first, second = message.resource_logs[0].scope_logs[0].log_records
    second.time_unix_nano = first.time_unix_nano
    assert await send(loki_server, batch) == {"delivered": 2}

    assert [line.metadata["process_pid"] for line in lines(loki_server, batch)] == ["0", "1"]


async def test_three_days_late_is_not_too_late(loki_server: loki.Loki) -> None:
    """It is found once Loki has flushed it: it does not look for what is old where the new is."""
    batch = some_logs("a", age_ns=3 * DAY_NS)
    assert await send(loki_server, batch) == {"delivered": 1}
    assert lines(loki_server, batch) == []

    loki_server.flush()
    [line] = collected.until(lambda: lines(loki_server, batch), "the line")
    assert line.text == "record a"


async def test_what_is_older_than_a_week_is_refused_and_its_fellows_are_not(
    loki_server: loki.Loki,
) -> None:
    """Loki takes the good ones and answers 400 to all: the agent's count is then too high."""
    batch = some_logs("old", "new", age_ns=8 * DAY_NS)
    message: Any = batch.data
    _, new = message.resource_logs[0].scope_logs[0].log_records
    new.time_unix_nano = time.time_ns()
    assert await send(loki_server, batch) == {"rejected": 2}

    assert [line.text for line in lines(loki_server, batch)] == ["record new"]


async def test_without_a_tenant_the_queue_on_a_disk_keeps_what_it_refuses(
    loki_server: loki.Loki, tmp_path: pathlib.Path
) -> None:
    """401 is for good: nothing is in the way of what follows, and nothing is thrown away."""
    agent = exporting.Agent("otlp_http")
    storage = keeping.started_storage(agent, tmp_path)
    config = otlp_http.Config(
        endpoint=loki_server.endpoint, sending_queue=QueueConfig(storage="file_storage")
    )
    exporter = otlp_http.FACTORY.create(agent.settings, config)
    await storage.start()
    await exporter.start()
    batch = some_logs("a")
    await agent.consume(exporter, batch)
    assert await exporting.settled(agent) == {"rejected": 1}
    await exporter.shutdown()
    await storage.shutdown()

    with contextlib.closing(sqlite3.connect(tmp_path / "queue.db")) as database:
        [(body, reason)] = database.execute("SELECT body, reason FROM dead_letters").fetchall()
    assert body == batch.encoded()
    assert reason == "the server answered 401: no org id"
