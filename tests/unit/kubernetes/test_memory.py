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

PODS, PER_SECOND = 110, 100
KIB = 1024


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def kept_bytes() -> int:
    """What was allocated by the source, and is still there."""
    gc.collect()
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/otel_oom/kubernetes/*")
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(found.size for found in snapshot.statistics("filename"))


async def replace(api: model_api.ModelApi, first: int, seconds: int) -> None:
    """Give pods new containers, one pod in ten a new name too."""
    for count in range(first, first + seconds * PER_SECOND):
        number, restarts = count % PODS, 1 + count // PODS
        if count % 10 == 0:
            old = next(iter(api.objects))
            api.delete(old)
            api.store(kube_json.pod(PODS + count))
        else:
            api.store(kube_json.pod(number, restarts=restarts))
        if count % PER_SECOND == 0:
            await asyncio.sleep(1)
    while len(api.objects) > PODS:
        api.delete(next(iter(api.objects)))
    await asyncio.sleep(1)


@virtual_loop.scenario
async def test_memory_is_flat_while_a_hundred_containers_a_second_are_replaced(traced):
    api = model_api.ModelApi()
    for number in range(PODS):
        api.store(kube_json.pod(number))
    source, sink = Reflector(api, {Kind.POD: Selection()}), kube_sink.Kept()
    task = asyncio.create_task(source.run(sink))
    await replace(api, 0, 4)
    before = kept_bytes()
    await replace(api, 4 * PER_SECOND, 8)
    after = kept_bytes()
    assert sink.versions() == api.versions()
    task.cancel()
    await asyncio.wait([task])

    assert source.counts.requests == {("pods", "list"): 2, ("pods", "watch"): 1}
    assert before > PODS * KIB, "the pods themselves are there"
    assert after < before + 64 * KIB
