"""Slow operations as OTLP: what is told, that it is well formed, and ids that stay the same."""

from __future__ import annotations

import pytest
from doubles import storage_record as made
from doubles import storage_told as told

from otel_oom import semconv
from otel_oom.bpf.storage_operations_events import StorageCall
from otel_oom.pipeline.incidents import Incident
from otel_oom.receivers.storage import verdict
from otel_oom.receivers.storage.slow import of_call

VARIANTS = told.variants()
TYPES = {"string": str, "int": int, "double": float, "boolean": bool, "string[]": list}
KILL = Incident("/system.slice", 0, 1, b"t" * 16, b"s" * 8, "oom.kill")


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_told_is_what_is_expected(name: str) -> None:
    assert told.of([VARIANTS[name]]) == [told.expected()[name]]


def test_what_is_written_is_what_messages_write() -> None:
    logs, spans = told.encoder().batches(
        told.slows(list(VARIANTS.values())), told.TO_UNIX_NS, told.NOW_NS
    )

    assert type(logs.data).FromString(logs.encoded()).SerializeToString() == logs.encoded()
    assert type(spans.data).FromString(spans.encoded()).SerializeToString() == spans.encoded()


@pytest.mark.parametrize("name", VARIANTS)
def test_span_and_log_tell_the_same(name: str) -> None:
    (one,) = told.of([VARIANTS[name]])
    log = dict(one["log.attributes"])
    uid = log.pop("log.record.uid")

    assert log == one["span.attributes"]
    assert one["log.ids"] == one["span.ids"]
    assert uid == "".join(one["log.ids"])
    assert one["log.resource"] == one["span.resource"]
    assert [stage.split()[0] for stage in one["log.stages"]] == [
        event[0] for event in one["span.events"]
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_name_is_in_semconv_with_its_type(name: str) -> None:
    (one,) = told.of([VARIANTS[name]])
    stages = {event.name for event in semconv.STAGES_OF_CALL}

    for key, value in one["log.attributes"].items():
        assert key in semconv.STORAGE_ATTRIBUTES
        assert isinstance(value, TYPES[semconv.ATTRIBUTES[key].type])
    for event in one["span.events"]:
        assert event[0] in stages
        assert event[2]["storage.layer"] in set(semconv.Layer)


def test_an_operation_has_the_same_ids_however_often_it_is_sent() -> None:
    again = made.operation(26, number=42)
    other = made.operation(25, number=41)
    ids = [one["span.ids"] for one in told.of([VARIANTS["read"], (again, None), (other, None)])]

    assert ids[0] == ids[1] != ids[2]


def test_operations_of_a_cgroup_share_a_resource() -> None:
    pairs = [
        (made.operation(30, cgroup_id=cgroup, number=number), None)
        for number, cgroup in enumerate((99, 7, 99, 7), 1)
    ]
    logs, _ = told.encoder().batches(told.slows(pairs), told.TO_UNIX_NS, told.NOW_NS)

    found = [
        len(scope.log_records)
        for resource in logs.data.resource_logs  # type: ignore[union-attr]
        for scope in resource.scope_logs
    ]
    assert found == [2, 2]


def test_an_overlap_with_a_kill_is_a_link() -> None:
    asked = []

    def overlapping(path: str, start_ns: int, end_ns: int) -> list[Incident]:
        asked.append((path, end_ns - start_ns))
        return [KILL]

    (one,) = told.of([VARIANTS["read"]], overlapping)

    assert asked == [("/system.slice/postgresql.service", 25_000_000)]
    assert one["span.links"] == [
        ["74" * 16, "73" * 8, {"storage.overlap": "oom.kill"}],
    ]


def test_of_more_links_than_a_span_has_the_number_is_told() -> None:
    _, spans = told.encoder(lambda *_: [KILL] * 40).batches(
        told.slows([VARIANTS["read"]]), told.TO_UNIX_NS, told.NOW_NS
    )
    (span,) = spans.data.resource_spans[0].scope_spans[0].spans  # type: ignore[union-attr]

    assert (len(span.links), span.dropped_links_count) == (16, 24)


def test_a_cgroup_that_nobody_knows_overlaps_nothing() -> None:
    (one,) = told.of([VARIANTS["unknown file and cgroup"]], lambda *_: [KILL])

    assert one["span.links"] == []


def test_times_beyond_64_bits_keep_their_lowest() -> None:
    raw = made.operation(1)._replace(at=b"\1" + bytes(7) + bytes(72) + b"\xff" * 8 + bytes(8))
    line = made.timed(raw)
    judged = verdict.Judge(stage_ns=0, total_ns=0).judge(line)
    assert judged is not None
    slow = of_call(made.decoded(raw), line, judged, told.known())

    logs, spans = told.encoder().batches([slow], told.TO_UNIX_NS, told.NOW_NS)

    assert (len(logs.data.resource_logs), len(spans.data.resource_spans)) == (1, 1)  # type: ignore[union-attr]


def test_shapes_are_bounded() -> None:
    encoder = told.encoder()
    for count in range(3000):
        waits = [made.wait(1 + n, 1.4 + n, 1.5 + n) for n in range(count % 6)]
        at = {event: 0.5 for event in range(1, 10) if count >> event & 1}
        pair = made.operation(30, waits, at, call=StorageCall.READ), None
        encoder.batches(told.slows([pair]), 0, 0)

    assert len(encoder._shapes) <= 1024
