"""Start and stop: one source for all pipelines, and what is said of it."""

from __future__ import annotations

import asyncio

import pytest
from doubles import cluster_source as objects
from doubles import enriching, sink
from doubles.virtual_loop import now_s, scenario

from otel_oom import errors
from otel_oom.kubernetes.source import Kind
from otel_oom.pipeline.component import State
from otel_oom.processors import k8s_attributes
from otel_oom.processors.k8s_attributes import sources


def processors(count, source, monkeypatch, **options):
    async def make(*_):
        return source

    monkeypatch.setattr(sources, "make", make)
    bench = sink.Bench()
    config = enriching.config(**options)
    made = [
        k8s_attributes.FACTORY.create(bench.settings("k8s_attributes"), config, sink.Sink())
        for _ in range(count)
    ]
    return bench, made


async def test_all_pipelines_have_one_source(monkeypatch):
    source = objects.Objects(objects.pod())
    _, made = processors(3, source, monkeypatch)
    for each in made:
        await each.start()
    await asyncio.sleep(0)
    assert source.runs == 1
    await made[0].shutdown()
    await made[1].shutdown()
    assert source.running == 1
    await made[2].shutdown()
    assert source.running == 0


async def test_it_may_stop_before_it_started_and_twice(monkeypatch):
    source = objects.Objects()
    _, (processor,) = processors(1, source, monkeypatch)
    await processor.shutdown()
    await processor.start()
    await processor.shutdown()
    await processor.shutdown()
    assert source.running == 0


async def test_the_status_says_who_is_asked(monkeypatch):
    bench, (processor,) = processors(1, objects.Objects(), monkeypatch)
    await processor.start()
    status = bench.board.statuses()["k8s_attributes"]
    assert (status.state, status.detail) == (State.OK, "objects of a test")
    assert processor.summary() == ["objects of a test"]
    await processor.shutdown()
    bench, (processor,) = processors(1, None, monkeypatch)
    await processor.start()
    assert "nobody is asked" in bench.board.statuses()["k8s_attributes"].detail
    await processor.shutdown()


async def test_a_source_that_gives_up_is_told_and_records_go_on(monkeypatch):
    source = objects.Objects(objects.pod())
    source.failure = RuntimeError("broken")
    bench, (processor,) = processors(1, source, monkeypatch)
    await processor.start()
    await asyncio.sleep(0.01)
    status = bench.board.statuses()["k8s_attributes"]
    assert status.state is State.PERMANENT_ERROR
    assert "broken" in status.detail
    await processor.consume(
        sink.log_batch("a", resource={"process.linux.cgroup": enriching.path()})
    )
    assert processor._next.items == 1
    await processor.shutdown()


def test_the_start_waits_for_all_pods_if_it_shall():
    @scenario
    async def waits():
        with pytest.MonkeyPatch.context() as patch:
            source = objects.Objects(synced=False)
            _, (processor,) = processors(1, source, patch, wait_for_metadata=True)
            start = asyncio.create_task(processor.start())
            await asyncio.sleep(3)
            assert not start.done()
            source.synced = True
            await start
            assert now_s() < 3.2
            await processor.shutdown()

    waits()


def test_the_start_fails_if_they_are_not_known_in_time():
    @scenario
    async def fails():
        with pytest.MonkeyPatch.context() as patch:
            source = objects.Objects(synced=False)
            options = {"wait_for_metadata": True, "wait_for_metadata_timeout": "5s"}
            _, (processor,) = processors(1, source, patch, **options)
            with pytest.raises(errors.ComponentError, match=r"after 5 s .*objects of a test"):
                await processor.start()
            assert now_s() == 5
            await processor.shutdown()
            assert source.running == 0

    fails()


async def test_the_agents_own_metrics_name_no_pod(monkeypatch):
    source = objects.Objects(objects.pod())
    bench, made = processors(2, source, monkeypatch)
    for each in made:
        await each.start()
    await asyncio.sleep(0)
    source.put(Kind.POD, objects.pod("other", uid="other", containers={"app": "c" * 64}))
    gauges = list(bench.ledger.gauges())
    assert len(gauges) == len({name for name, _, _ in gauges}), "once for all pipelines"
    assert {name: value for name, _, value in gauges}["k8s_pods"] == 2
    for each in made:
        await each.shutdown()
