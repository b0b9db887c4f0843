"""A kill as a log record and a span, of every kind of kill."""

from __future__ import annotations

import mmap

import pytest
from doubles import oom_ring, oom_told
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom import semconv
from otel_oom.bpf.events import OomDeliveredFlag
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.receivers.oom import encode
from otel_oom.receivers.oom.missed import Missed

KILLS = oom_ring.variants()
EXPECTED = oom_told.expected()
OF_4_KIB = pytest.mark.skipif(
    mmap.PAGESIZE != 4096,
    reason="needs pages of 4 KiB, as the expected sizes were made with: run on such a kernel",
)


@OF_4_KIB
@pytest.mark.parametrize("name", KILLS)
def test_what_is_told_of_a_kill(name: str) -> None:
    ring, context = KILLS[name]
    assert oom_told.of(ring, context) == EXPECTED[name]


@pytest.mark.parametrize("name", KILLS)
def test_every_attribute_is_of_the_type_that_the_conventions_give(name: str) -> None:
    types = {str: "string", int: "int", float: "double", bool: "boolean"}
    for kill in oom_told.of(*KILLS[name]):
        for key, value in kill.items():
            where, _, attribute = key.partition(" ")
            if where in {"log", "span"} and attribute and name != "numbers large":
                expected = semconv.ATTRIBUTES[attribute].type
                found = types[type(value)] if type(value) in types else _array_type(value)
                assert found == expected, attribute


def _array_type(values: list[object]) -> str:
    return {str: "string[]", dict: "map[]"}[type(values[0])]


def test_the_command_line_is_left_out_when_it_is_not_wanted() -> None:
    (kill,) = oom_told.of(list(oom_ring.captured()), command_args=False)
    assert "log process.command_args" not in kill
    assert "process.command_args: the option `command_args` is false" in kill["log oom.missing"]


def test_no_byte_of_a_command_line_is_left_when_it_is_not_wanted() -> None:
    kills = oom_ring.assembled([oom_ring.mark(), oom_ring.delivered(b"--password\0hunter2\0")])
    batch = oom_ring.encoder(command_args=False).logs(kills, 0, 0)
    assert b"hunter2" not in batch.encoded()
    shown = oom_ring.encoder().logs(kills, 0, 0)
    assert b"hunter2" in shown.encoded()


def test_kills_of_one_cgroup_share_a_resource() -> None:
    kills = oom_ring.assembled(oom_ring.many(40))
    logs, spans = oom_ring.encoder().logs(kills, 0, 0), oom_ring.encoder().spans(kills, 0)
    assert logs.signal is Signal.LOGS
    assert spans.signal is Signal.TRACES
    assert Batch.of(logs.data) == logs
    assert Batch.of(spans.data) == spans
    assert len(logs.data.resource_logs) == len(spans.data.resource_spans) == 16
    for resource in logs.data.resource_logs:
        (scope,) = resource.scope_logs
        assert scope.scope.name == semconv.SCOPE_OOM
        assert scope.schema_url == semconv.SCHEMA_URL
        paths = {
            pair.value.string_value
            for log in scope.log_records
            for pair in log.attributes
            if pair.key == semconv.PROCESS_LINUX_CGROUP
        }
        (pair,) = resource.resource.attributes
        assert paths == {pair.value.string_value}
        assert pair.key == semconv.PROCESS_LINUX_CGROUP
    assert [each.resource for each in logs.data.resource_logs] == [
        each.resource for each in spans.data.resource_spans
    ]


def test_a_kill_of_whose_cgroup_nothing_is_known_has_none_on_its_resource() -> None:
    kills = oom_ring.assembled([oom_ring.mark(flags=0)])
    logs = oom_ring.encoder().logs(kills, 0, 0)
    assert not logs.data.resource_logs[0].resource.attributes


def test_what_the_victim_says_of_its_service_is_on_the_record() -> None:
    raw = b"OTEL_RESOURCE_ATTRIBUTES=service.name=r\0OTEL_SERVICE_NAME=shop\0"
    (kill,) = oom_told.of([oom_ring.mark(), oom_ring.delivered(variables=raw)])
    prefix = semconv.ENVIRONMENT_PREFIX
    assert kill[f"log {prefix}OTEL_SERVICE_NAME"] == "shop"
    assert kill[f"log {prefix}OTEL_RESOURCE_ATTRIBUTES"] == "service.name=r"
    assert not [line for line in kill["log oom.missing"] if prefix in line]


def test_why_it_may_lack_is_on_the_record() -> None:
    for ring, reason in (
        ([oom_ring.mark()], "the victim was gone before it could be read"),
        (
            [oom_ring.mark(), oom_ring.delivered(flags=OomDeliveredFlag.VARIABLES_MORE)],
            "it is not among the first 256 of its environment",
        ),
    ):
        (kill,) = oom_told.of(ring)
        assert f"{semconv.ENVIRONMENT_PREFIX}*: {reason}" in kill["log oom.missing"]


def test_the_first_process_of_the_container_is_named_with_its_command() -> None:
    chain = (
        oom_ring.process(tgid=501, vpid=9, comm=b"worker"),
        oom_ring.process(tgid=500, vpid=1, comm=b"entrypoint"),
        oom_ring.process(tgid=400, vpid=400, comm=b"shim"),
        oom_ring.process(tgid=1, vpid=1, comm=b"systemd"),
    )
    context = oom_ring.context(init_command_line=b"/entrypoint\0--serve\0")
    (kill,) = oom_told.of([oom_ring.mark(ancestor=b"".join(chain))], context)
    assert kill["log oom.init.process.pid"] == 500
    assert kill["log oom.init.process.executable.name"] == "entrypoint"
    assert kill["log oom.init.process.command_args"] == ["/entrypoint", "--serve"]
    roles = {each["name"]: each["role"] for each in kill["log oom.processes"]}
    assert roles["entrypoint"] == "container_init"
    assert roles["worker"] == roles["shim"] == roles["systemd"] == "ancestor"


def test_a_victim_on_the_host_has_no_container_and_one_that_is_init_no_other() -> None:
    host = oom_ring.process(tgid=1, vpid=1, comm=b"systemd")
    (kill,) = oom_told.of([oom_ring.mark(ancestor=host)])
    assert "log oom.init.process.pid" not in kill
    above = oom_ring.process(tgid=500, vpid=1, comm=b"outer")
    own = oom_ring.process(vpid=1)
    (kill,) = oom_told.of([oom_ring.mark(ancestor=above, victim=own)])
    assert "log oom.init.process.pid" not in kill


def test_no_kills_make_an_empty_batch() -> None:
    assert oom_ring.encoder().logs([], 0, 0) == Batch(Signal.LOGS, LogsData(), 0)
    assert oom_ring.encoder().spans([], 0) == Batch(Signal.TRACES, TracesData(), 0)


@pytest.mark.parametrize("name", KILLS)
def test_what_is_sent_is_what_protobuf_writes_of_the_message(name: str) -> None:
    kills = oom_ring.assembled(*KILLS[name])
    for batch in (oom_ring.encoder().logs(kills, 1, 2), oom_ring.encoder().spans(kills, 1)):
        sent = batch.encoded()
        batch.data.DiscardUnknownFields()
        assert sent == batch.data.SerializeToString()


def test_the_same_kill_has_the_same_ids_and_another_host_has_others() -> None:
    kills = oom_ring.assembled(list(oom_ring.captured()))
    ids = []
    for boot_id in ("one", "one", "two"):
        encoder = encode.Encoder(boot_id=boot_id, version="1", mode="core")
        (resource,) = encoder.logs(kills, 0, 0).data.resource_logs
        log = resource.scope_logs[0].log_records[0]
        ids.append((log.trace_id, log.span_id))
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[2][0]
    assert ids[0][1] != ids[2][1]


def test_missed_kills_are_a_record_with_their_count() -> None:
    missed = Missed(3, "ring_overflow", 0, cgroup="/pod", kill_count=9)
    batch = oom_ring.encoder().missed([missed, Missed(1, "not_seen", 0)], 5)
    assert batch.items == 2
    first = batch.data.resource_logs[0].scope_logs[0].log_records[0]
    assert first.body.string_value == (
        "OOM: 3 kill(s) in /pod known from the kernel's counter alone (ring_overflow), since "
        "1970-01-01T00:00:00.000Z"
    )
