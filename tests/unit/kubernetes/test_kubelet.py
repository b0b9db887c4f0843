"""A kubelet's pods, in virtual time: when it is asked, and what of its answers is told."""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator

from doubles import kube_json, kube_sink, model_api, virtual_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom.kubernetes.kubelet import SOONEST_S, Kubelet
from otel_oom.kubernetes.source import Kind


class Node:
    """Answers as a kubelet does."""

    url = "https://node:10250"

    def __init__(self) -> None:
        self.pods: dict[str, kube_json.Json] = {}
        self.faults: collections.deque[str] = collections.deque()
        self.times_s: list[float] = []
        self.is_closed = False

    def put(self, number: int, restarts: int = 0) -> None:
        pod = kube_json.pod(number, restarts=restarts)
        self.pods[pod["metadata"]["name"]] = pod

    def delete(self, number: int) -> None:
        self.pods.pop(kube_json.pod(number)["metadata"]["name"], None)

    async def get(self, target: str) -> bytes:
        assert target == "/pods"
        self.times_s.append(virtual_loop.now_s())
        fault = self.faults.popleft() if self.faults else ""
        if fault in model_api.REFUSALS:
            raise model_api.REFUSALS[fault]
        return b"{}" if fault else kube_json.listed(list(self.pods.values()) or None, version="")

    def close(self) -> None:
        self.is_closed = True

    def ids(self) -> dict[str, str]:
        return {
            name: pod["status"]["containerStatuses"][0]["containerID"]
            for name, pod in self.pods.items()
        }


def ids(sink: kube_sink.Kept) -> dict[str, str]:
    pods = sink.objects.get(Kind.POD, {})
    return {name: pod.status.container_statuses[0].container_id for name, pod in pods.items()}


@contextlib.asynccontextmanager
async def polling(
    node: Node, interval_s: float = 10.0
) -> AsyncIterator[tuple[Kubelet, kube_sink.Kept]]:
    source, sink = Kubelet(node, interval_s=interval_s), kube_sink.Kept()
    task = asyncio.create_task(source.run(sink))
    try:
        yield source, sink
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert node.is_closed


@virtual_loop.scenario
async def test_differences_are_told_and_nothing_else():
    node = Node()
    for number in range(3):
        node.put(number)
    async with polling(node) as (source, sink):
        assert not source.is_synced()
        await asyncio.sleep(101)
        assert (source.is_synced(), ids(sink)) == (True, node.ids())
        node.put(1, restarts=1)
        node.put(3)
        node.delete(0)
        await asyncio.sleep(10)
        assert ids(sink) == node.ids()
    assert sink.replaced == [Kind.POD]
    assert source.counts.changes == {
        ("pods", "MODIFIED"): 1,
        ("pods", "ADDED"): 1,
        ("pods", "DELETED"): 1,
    }
    assert source.counts.requests == {("pods", "get"): len(node.times_s)}
    assert not source.counts.errors


@virtual_loop.scenario
async def test_it_is_asked_at_intervals_and_at_once_when_poked_but_never_without_pause():
    node = Node()
    async with polling(node) as (source, sink):
        await asyncio.sleep(25)
        assert node.times_s == [0, 10, 20]
        node.put(1)
        source.poke()
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert ids(sink) == node.ids()
        for _ in range(1000):
            source.poke()
            await asyncio.sleep(0.001)
        await asyncio.sleep(20)  # the pokes are over
    assert node.times_s[3:8] == [25, 25.25, 25.5, 25.75, 26]
    assert node.times_s[8:] == [26.25, 36.25]
    assert SOONEST_S == 0.25


@virtual_loop.scenario
async def test_a_pod_that_cannot_be_read_is_not_told_as_gone():
    node = Node()
    node.put(1)
    async with polling(node) as (source, sink):
        await asyncio.sleep(1)
        before = ids(sink)
        next(iter(node.pods.values()))["spec"] = "odd"
        node.put(2)
        await asyncio.sleep(10)
        assert ids(sink) == before | {kube_json.pod(2)["metadata"]["name"]: ids(sink).popitem()[1]}
        assert source.counts.errors == {("pods", "undecodable"): 1}


@virtual_loop.scenario
async def test_what_is_no_list_takes_nothing_away_and_a_missing_right_is_named(caplog):
    node = Node()
    node.put(1)
    async with polling(node) as (source, sink):
        await asyncio.sleep(1)
        for fault in ("garbage", "403", "403"):
            node.faults.append(fault)
        await asyncio.sleep(12)
        assert ids(sink) == node.ids()
        assert "grant `get` on `nodes/proxy`" in source.describe()
        await asyncio.sleep(10)
        assert source.describe() == "kubelet https://node:10250: pods polled"
    assert source.counts.errors == {("pods", "garbage"): 1, ("pods", "forbidden"): 2}
    assert caplog.text.count("grant") == 1


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.integers(0, 5)),
    st.tuples(st.just("poke")),
    st.tuples(st.just("fault"), st.sampled_from(["garbage", *model_api.REFUSALS])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 1.0, 10.0])),
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.lists(STEPS, max_size=20))
@virtual_loop.scenario
async def test_after_any_course_of_events_the_sink_has_what_the_kubelet_has(steps: list[tuple]):
    node = Node()
    async with polling(node) as (source, sink):
        for name, *arguments in steps:
            match name:
                case "wait":
                    await asyncio.sleep(*arguments)
                case "poke":
                    source.poke()
                case "fault":
                    node.faults.extend(arguments)
                case _:
                    getattr(node, name)(*arguments)
        await asyncio.sleep(1000)
        assert ids(sink) == node.ids()
    waits = [later - one for one, later in zip(node.times_s, node.times_s[1:], strict=False)]
    assert min(waits) >= SOONEST_S - 1e-6
