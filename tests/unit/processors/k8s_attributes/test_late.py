"""Records that come before their pod is known: they wait, nobody waits for them, none is lost."""

from __future__ import annotations

import asyncio

import pytest
from doubles import cluster_source as objects
from doubles import enriching, sink
from doubles.enriching import ID, path
from doubles.virtual_loop import now_s, scenario
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otel_oom import errors
from otel_oom.kubernetes.source import Kind
from otel_oom.pipeline.data import Batch, Signal

OTHER = "b" * 64


def records(*bodies, cgroup=None):
    return sink.log_batch(*bodies, resource={"process.linux.cgroup": cgroup or path()})


def of_signal(kind, resources, scopes, items):
    message = kind()
    holder = getattr(message, resources).add()
    key = holder.resource.attributes.add(key="process.linux.cgroup")
    key.value.string_value = path()
    getattr(getattr(holder, scopes).add(), items).add()
    return message


@scenario
async def test_a_record_waits_until_its_pod_is_known():
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects()
        async with enriching.running(patch, source) as bench:
            await bench.consume(records("early").weighing(9))
            assert bench.end.batches == []
            assert bench.balance().held == 1
            assert source.pokes == 1
            await asyncio.sleep(1.0)
            source.put(Kind.POD, objects.pod())
            await bench.end.wait_for_items(1)
            assert now_s() < 1.1
            found = enriching.resource_of(bench.end.batches[0])
            assert (found["k8s.match"], found["k8s.container.name"]) == ("container_id", "app")
            assert bench.end.batches[0].weight == 9
            assert bench.balance().held == 0


@scenario
async def test_a_record_waits_for_its_container_of_a_pod_that_is_known():
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects(objects.pod(containers={"app": ""}))
        async with enriching.running(patch, source) as bench:
            await bench.consume(records("early"))
            await asyncio.sleep(0.5)
            assert bench.end.batches == []
            source.put(Kind.POD, objects.pod())
            await bench.end.wait_for_items(1)
            assert enriching.resource_of(bench.end.batches[0])["k8s.container.name"] == "app"


@scenario
async def test_who_stays_unknown_goes_as_it_is_after_the_time_out():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects()) as bench:
            await bench.consume(records("unknown"))
            await bench.end.wait_for_items(1)
            assert now_s() == pytest.approx(2.0)
            found = enriching.resource_of(bench.end.batches[0])
            assert (found["k8s.match"], found["k8s.miss"]) == ("cgroup", "pod_unknown")
            assert found["container.id"] == ID


@scenario
async def test_each_waits_for_its_own_time():
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects()
        async with enriching.running(patch, source) as bench:
            await bench.consume(records("first"))
            await asyncio.sleep(1.5)
            await bench.consume(records("second"))
            await bench.end.wait_for_items(1)
            assert now_s() == pytest.approx(2.0)
            await asyncio.sleep(0.5)
            source.put(Kind.POD, objects.pod())
            await bench.end.wait_for_items(2)
            assert enriching.resource_of(bench.end.batches[1])["k8s.match"] == "container_id"
            assert bench.end.bodies() == ["first", "second"]


@scenario
async def test_others_do_not_wait_for_it():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects(objects.pod())) as bench:
            unknown = path(OTHER).replace("1111", "9999")
            batch = Batch(
                Signal.LOGS,
                records("unknown", cgroup=unknown).encoded() + records("known").encoded(),
                2,
            )
            await bench.consume(batch)
            assert bench.end.bodies() == ["known"]
            assert bench.end.batches[0].items == 1
            assert bench.balance().held == 1


@scenario
async def test_metrics_do_not_wait():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects()) as bench:
            message = of_signal(MetricsData, "resource_metrics", "scope_metrics", "metrics")
            message.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points.add()
            await bench.consume(Batch.of(message))
            assert enriching.resource_of(bench.end.batches[0])["k8s.miss"] == "pod_unknown"


@scenario
async def test_spans_wait():
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects()
        async with enriching.running(patch, source) as bench:
            message = of_signal(TracesData, "resource_spans", "scope_spans", "spans")
            await bench.consume(Batch.of(message))
            assert bench.balance(Signal.TRACES).held == 1
            source.put(Kind.POD, objects.pod())
            await bench.end.wait_for_items(1)
            assert enriching.resource_of(bench.end.batches[0])["k8s.match"] == "container_id"


@scenario
async def test_when_there_is_no_room_they_go_as_they_are_and_say_so():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects(), late_items=3) as bench:
            await bench.consume(records("a", "b"))
            await bench.consume(records("c", "d"))
            assert bench.end.bodies() == ["c", "d"]
            assert enriching.resource_of(bench.end.batches[0])["k8s.miss"] == "hold_full"
            assert bench.counted("k8s_hold_full_items") == 2
            assert bench.counted("k8s_late_items") == 2


@scenario
async def test_at_the_stop_they_go_as_they_are():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects()) as bench:
            await bench.consume(records("waits"))
        assert bench.end.bodies() == ["waits"]
        assert now_s() < 0.1
        assert bench.balance().delivered == 1


@scenario
async def test_at_the_stop_nothing_is_left_behind_one_that_is_on_its_way():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects()) as bench:
            await bench.consume(records("first"))
            bench.end.open.clear()
            await asyncio.sleep(2.5)  # the first is being handed on
            await bench.consume(records("second", cgroup=path("b" * 64)))
            stopping = asyncio.create_task(bench.processor.shutdown())
            await asyncio.sleep(0.1)
            bench.end.open.set()
            await stopping

            assert bench.end.bodies() == ["first", "second"]
            assert bench.balance().dropped == {}


@scenario
async def test_what_the_next_refuses_is_dropped_and_counted():
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects()
        async with enriching.running(patch, source) as bench:
            await bench.consume(records("waits"))
            bench.end.refusal = errors.Refused("no", reason="queue_full")
            source.put(Kind.POD, objects.pod())
            await asyncio.sleep(1)
            assert bench.balance().dropped == {"queue_full": 1}


@scenario
async def test_a_stop_that_is_broken_off_counts_what_was_held():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects()) as bench:
            await bench.consume(records("a", "b"))
            await bench.consume(records("c", cgroup=path(OTHER).replace("1111", "9999")))
            bench.end.open.clear()
            stop = asyncio.create_task(bench.processor.shutdown())
            await asyncio.sleep(1)
            stop.cancel()
            await asyncio.gather(stop, return_exceptions=True)
            assert bench.balance().dropped == {"shutdown": 3}


@scenario
async def test_a_batch_that_is_refused_is_not_half_taken():
    with pytest.MonkeyPatch.context() as patch:
        async with enriching.running(patch, objects.Objects(objects.pod())) as bench:
            unknown = records("unknown", cgroup=path(OTHER).replace("1111", "9999"))
            batch = Batch(Signal.LOGS, unknown.encoded() + records("known").encoded(), 2)
            bench.end.refusal = errors.Refused("no", reason="queue_full")
            with pytest.raises(errors.Refused):
                await bench.consume(batch)
            assert bench.balance().held == 0
            bench.around.ledger.dropped("test", Signal.LOGS, 2, "queue_full")


@scenario
async def test_who_never_becomes_known_is_not_waited_for_for_ever():
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects()
        async with enriching.running(patch, source) as bench:
            for _ in range(6):
                await bench.consume(records("x"))
                await asyncio.sleep(2.5)
            before = len(bench.end.batches)
            await bench.consume(records("at once"))
            assert len(bench.end.batches) == before + 1
            source.put(Kind.POD, objects.pod())
            assert (await bench.of_path())["k8s.match"] == "container_id"


@scenario
async def test_a_storm_of_changes_does_not_look_at_each():
    """And what waits beside it is named as soon as it can be."""
    with pytest.MonkeyPatch.context() as patch:
        source = objects.Objects()
        async with enriching.running(patch, source, late_timeout="10s") as bench:
            await bench.consume(records("waits"))
            looks = 0
            enrich = bench.processor._enricher.enrich

            def counted(raw):
                nonlocal looks
                looks += 1
                return enrich(raw)

            bench.processor._enricher.enrich = counted
            for number in range(1000):
                id_ = f"{number:064x}"
                source.put(Kind.POD, objects.pod(f"p{number}", uid=id_, containers={"app": id_}))
                await asyncio.sleep(0.001)
            assert looks <= 60
            source.put(Kind.POD, objects.pod())
            await bench.end.wait_for_items(1)
            assert enriching.resource_of(bench.end.batches[0])["k8s.container.name"] == "app"
