"""A node whose containers are replaced all the time: what is kept does not grow."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import pytest
from doubles import kube_json, kube_sink, model_api, virtual_loop

from otel_oom.kubernetes.reflector import Reflector
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.targets import Selection
from otel_oom.processors.k8s_attributes.index import Index

PODS, PER_SECOND = 5, 100
PLATEAU_S, LONGER_S = 4, 4
"""Seconds until as much is remembered as ever will be, and for how much longer it is watched."""
KIB = 1024


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def kept_bytes() -> int:
    """What was allocated by the source and the index, and is still there."""
    gc.collect()
    ours = [
        tracemalloc.Filter(inclusive=True, filename_pattern=f"*/otel_oom/{room}/*")
        for room in ("kubernetes", "processors/k8s_attributes")
    ]
    snapshot = tracemalloc.take_snapshot().filter_traces(ours)
    return sum(found.size for found in snapshot.statistics("filename"))


async def replace(api: model_api.ModelApi, first: int, seconds: int) -> None:
    """Give pods new containers; one in ten makes room for a new pod."""
    for count in range(first, first + seconds * PER_SECOND):
        if count % 10 == 0:
            api.delete(next(iter(api.objects)))
            api.store(kube_json.pod(PODS + count))
        else:
            found = list(api.objects.values())[count % PODS]
            number = int(found["metadata"]["uid"][:8], base=16)
            api.store(kube_json.pod(number, restarts=count))
        if count % PER_SECOND == 0:
            await asyncio.sleep(1)
    await asyncio.sleep(1)


@pytest.mark.parametrize("keeper", ["nothing but what there is", "the processor's index"])
def test_memory_is_flat_while_a_hundred_containers_a_second_are_replaced(traced, keeper: str):
    @virtual_loop.scenario
    async def scenario():
        api = model_api.ModelApi()
        for number in range(PODS):
            api.store(kube_json.pod(number))
        index = Index(virtual_loop.now_s, grace_s=2.0)
        sink = index if keeper == "the processor's index" else kube_sink.Kept()
        source = Reflector(api, {Kind.POD: Selection()})
        task = asyncio.create_task(source.run(sink))
        await asyncio.sleep(1)
        await replace(api, 1, PLATEAU_S)
        before = kept_bytes()
        await replace(api, 1 + PLATEAU_S * PER_SECOND, LONGER_S)
        after = kept_bytes()
        task.cancel()
        await asyncio.wait([task])

        assert source.counts.requests == {("pods", "list"): 1, ("pods", "watch"): 1}
        assert source.counts.changes.total() > (PLATEAU_S + LONGER_S) * PER_SECOND
        assert before > PODS * KIB, "the pods themselves are there"
        assert after < 1.1 * before + 8 * KIB
        assert index.evicted == 0

    scenario()
