"""What a kill's record says of its container's specification, and of nobody else's."""

from __future__ import annotations

import os

import pytest
from doubles import cluster_source as objects
from doubles import enriching
from doubles.enriching import SLICE, path
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import Batch
from otel_oom.processors.k8s_attributes import kills

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
SPEC = {
    "priorityClassName": "high",
    "containers": [
        {
            "name": "app",
            "image": "app:1",
            "resources": {
                "requests": {"memory": "64Mi", "cpu": "100m"},
                "limits": {"memory": "256Mi", "cpu": "2"},
            },
        }
    ],
}


def kill(event="oom.kill", **attributes):
    return LogRecord(event_name=event, attributes=otlp.key_values(attributes))


def logs(*records, resource=None):
    message = ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])
    resource = {"process.linux.cgroup": path()} if resource is None else resource
    message.resource.attributes.extend(otlp.key_values(resource))
    return Batch.of(LogsData(resource_logs=[message]))


def limited(cgroup, limit_bytes):
    return kill(**{"oom.limit.cgroup": cgroup, "oom.limit.bytes": limit_bytes})


async def attributes_of(monkeypatch, pod, *records):
    """Those of each record after the processor."""
    source = objects.Objects(pod) if pod else None
    async with enriching.running(monkeypatch, source) as bench:
        await bench.consume(logs(*records))
    (batch,) = bench.end.batches
    return [
        otlp.attributes(record.attributes)
        for scope in batch.data.resource_logs[0].scope_logs
        for record in scope.log_records
    ]


async def test_what_was_asked_for_stands_on_the_record(monkeypatch):
    statuses = [
        objects.status("app", enriching.ID, restarts=3, lastState=objects.ended("b" * 64, "Error"))
    ]
    pod = objects.pod(spec=SPEC, status={"containerStatuses": statuses})
    (found,) = await attributes_of(monkeypatch, pod, kill())
    assert found == {
        "oom.container.memory.request": 64 * MIB,
        "oom.container.memory.limit": 256 * MIB,
        "oom.container.cpu.request": 0.1,
        "oom.container.cpu.limit": 2.0,
        "k8s.container.restart_count": 3,
        "k8s.container.status.last_terminated_reason": "Error",
        "k8s.pod.qos_class": "Burstable",
        "k8s.pod.priority_class": "high",
    }


async def test_the_count_of_restarts_is_that_of_the_instance_that_was_killed(monkeypatch):
    statuses = [
        objects.status(
            "app", "b" * 64, restarts=3, lastState=objects.ended(enriching.ID, "OOMKilled")
        )
    ]
    pod = objects.pod(spec=SPEC, status={"containerStatuses": statuses})
    (found,) = await attributes_of(monkeypatch, pod, kill())
    assert found["k8s.container.restart_count"] == 2
    assert found["k8s.container.status.last_terminated_reason"] == "OOMKilled"


async def test_other_records_stay_as_they_are(monkeypatch):
    records = kill("storage.slow_operation", a="oom.kill"), kill(), kill("")
    first, second, third = await attributes_of(monkeypatch, objects.pod(spec=SPEC), *records)
    assert first == {"a": "oom.kill"}
    assert "oom.container.memory.limit" in second
    assert third == {}


async def test_what_a_record_says_itself_stays(monkeypatch):
    """As when another agent's processor was there before."""
    batch = logs(kill(**{"oom.container.memory.limit": 7, "k8s.pod.priority_class": "own"}))
    async with enriching.running(monkeypatch, objects.Objects(objects.pod(spec=SPEC))) as bench:
        await bench.consume(batch)
    (record,) = bench.end.batches[0].data.resource_logs[0].scope_logs[0].log_records
    keys = [pair.key for pair in record.attributes]
    assert len(keys) == len(set(keys)), "a key twice"
    found = otlp.attributes(record.attributes)
    assert found["oom.container.memory.limit"] == 7
    assert found["k8s.pod.priority_class"] == "own"
    assert found["oom.container.memory.request"] == 64 * MIB


async def test_a_kills_span_has_the_same(monkeypatch):
    span = Span(name="oom.kill")
    message = ResourceSpans(scope_spans=[ScopeSpans(spans=[span, Span(name="other")])])
    message.resource.attributes.append(otlp.key_value("process.linux.cgroup", path()))
    async with enriching.running(monkeypatch, objects.Objects(objects.pod(spec=SPEC))) as bench:
        await bench.consume(Batch.of(TracesData(resource_spans=[message])))
    spans = bench.end.batches[0].data.resource_spans[0].scope_spans[0].spans
    found = otlp.attributes(spans[0].attributes)
    assert found["oom.container.memory.limit"] == 256 * MIB
    assert not spans[1].attributes


async def test_without_a_specification_there_is_nothing_to_tell(monkeypatch):
    (found,) = await attributes_of(monkeypatch, None, limited(path(), 256 * MIB))
    assert found == {
        "oom.limit.cgroup": path(),
        "oom.limit.bytes": 256 * MIB,
        "oom.limit.level": "container",
        "k8s.pod.qos_class": "Burstable",  # the path tells
    }


@pytest.mark.parametrize(
    ("cgroup", "limit", "level", "versus"),
    [
        (path(), 256 * MIB, "container", "equal"),
        (path(), 128 * MIB, "container", "below"),
        (path(), 257 * MIB, "container", "above"),
        (f"{path()}/inner", 64 * MIB, "other", None),
        (SLICE, 256 * MIB, "pod", "equal"),
        (SLICE, 512 * MIB, "pod", "above"),
        ("/kubepods.slice/kubepods-burstable.slice", 512 * MIB, "qos_class", None),
        ("/kubepods/besteffort", 512 * MIB, "qos_class", None),
        ("/kubepods.slice", 512 * MIB, "kubepods", None),
        ("/kubepods", 512 * MIB, "kubepods", None),
        ("/system.slice", 512 * MIB, "other", None),
    ],
)
async def test_whose_limit_it_was_and_how_it_compares(monkeypatch, cgroup, limit, level, versus):
    (found,) = await attributes_of(monkeypatch, objects.pod(spec=SPEC), limited(cgroup, limit))
    assert found["oom.limit.level"] == level
    assert found.get("oom.limit.versus_spec") == versus


async def test_a_limit_that_nobody_specified(monkeypatch):
    (found,) = await attributes_of(monkeypatch, objects.pod(), limited(path(), 256 * MIB))
    assert found["oom.limit.versus_spec"] == "unspecified"


async def test_the_limit_of_a_pod_with_init_containers_is_not_compared(monkeypatch):
    spec = SPEC | {"initContainers": [{"name": "setup", "image": "a"}]}
    (found,) = await attributes_of(monkeypatch, objects.pod(spec=spec), limited(SLICE, 256 * MIB))
    assert "oom.limit.versus_spec" not in found


@pytest.mark.parametrize(
    ("limit", "specified", "versus"),
    [
        (PAGE * 3, PAGE * 3 + 1, "equal"),  # the kernel keeps whole pages
        (PAGE * 3, PAGE * 4, "below"),
        (PAGE * 3, PAGE * 3 - 1, "above"),
        (PAGE, None, "unspecified"),
    ],
)
def test_the_kernels_limit_is_of_whole_pages(limit, specified, versus):
    assert kills.versus(limit, specified) == versus


VARIABLES = "process.environment_variable."


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([{"OTEL_SERVICE_NAME": "mine"}], "mine"),
        ([{"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=own%20one"}], "own one"),
        ([{"OTEL_SERVICE_NAME": "n", "OTEL_RESOURCE_ATTRIBUTES": "service.name=m"}], "n"),
        ([{"OTEL_RESOURCE_ATTRIBUTES": "%zz=1"}], None),
        ([{"OTEL_SERVICE_NAME": "one"}, {"OTEL_SERVICE_NAME": "two"}], None),
        ([{"OTEL_SERVICE_NAME": "one"}, {}], None),
        ([{}], None),
    ],
)
async def test_the_victims_own_name_of_its_service(monkeypatch, variables, expected):
    found = [kill(**{VARIABLES + key: text for key, text in each.items()}) for each in variables]
    async with enriching.running(monkeypatch, objects.Objects(objects.pod())) as bench:
        await bench.consume(logs(*found))
    assert enriching.resource_of(bench.end.batches[0]).get("service.name") == expected


async def test_the_pods_name_of_the_service_comes_first(monkeypatch):
    extract = {"metadata": ["service.name"]}
    source = objects.Objects(objects.pod(metadata={"labels": {"app.kubernetes.io/name": "pods"}}))
    async with enriching.running(monkeypatch, source, extract=extract) as bench:
        await bench.consume(logs(kill(**{VARIABLES + "OTEL_SERVICE_NAME": "mine"})))
    assert enriching.resource_of(bench.end.batches[0])["service.name"] == "pods"
