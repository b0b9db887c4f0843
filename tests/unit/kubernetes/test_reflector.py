"""A reflector and a model of an API server, in virtual time: what is asked, when, and what is told."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest
from doubles import kube_sink, model_api, virtual_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom.kubernetes import backoff, reflector
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.targets import Selection

HOUR_S = 3600.0


@contextlib.asynccontextmanager
async def following(
    api: model_api.ModelApi, which: Selection | None = None
) -> AsyncIterator[tuple[reflector.Reflector, kube_sink.Kept]]:
    source = reflector.Reflector(api, {Kind.POD: which or Selection()})
    sink = kube_sink.Kept()
    task = asyncio.create_task(source.run(sink))
    try:
        yield source, sink
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def verbs(api: model_api.ModelApi) -> list[str]:
    return [verb for _, verb, _ in api.requests]


@virtual_loop.scenario
async def test_one_list_then_one_watch_at_a_time_and_in_a_quiet_hour_no_list():
    api = model_api.ModelApi()
    for number in range(250):
        api.put(f"pod-{number}")
    async with following(api) as (source, sink):
        assert not source.is_synced()
        await asyncio.sleep(HOUR_S)

        assert source.is_synced()
        assert sink.versions() == api.versions()
    assert verbs(api)[:3] == ["list"] * 3
    assert set(verbs(api)[3:]) == {"watch"}
    assert HOUR_S / 300 <= len(api.requests) - 3 <= HOUR_S / 240 + 1
    assert not source.counts.errors
    assert sink.replaced == [Kind.POD]


@virtual_loop.scenario
async def test_what_is_asked_for():
    api = model_api.ModelApi()
    api.put("pod")
    async with following(api, Selection(fields="spec.nodeName=n", labels="a=b")):
        await asyncio.sleep(1)
        api.fault("410")
        await asyncio.sleep(10)

    selectors = {"fieldSelector": "spec.nodeName=n", "labelSelector": "a=b"}
    queries = [query for _, _, query in api.requests]
    assert queries[0] == {"limit": "100", "resourceVersion": "0"} | selectors
    timeout = queries[1].pop("timeoutSeconds")
    assert 240 <= int(timeout) <= 300
    assert (
        queries[1]
        == {"watch": "1", "resourceVersion": "2", "allowWatchBookmarks": "true"} | selectors
    )
    assert queries[2] == {"limit": "100"} | selectors  # the newest: what is in memory may be older


@virtual_loop.scenario
async def test_a_watch_goes_on_where_the_last_one_ended_bookmarks_included():
    api = model_api.ModelApi()
    async with following(api) as (_, sink):
        await asyncio.sleep(1)
        api.version = 50  # other kinds' changes
        await asyncio.sleep(61)
        api.fault("end")
        await asyncio.sleep(1)
        assert api.requests[-1][2]["resourceVersion"] == "50"
        api.put("pod")
        await asyncio.sleep(1)
        assert sink.versions() == api.versions()
    assert verbs(api) == ["list", "watch", "watch"]


@pytest.mark.parametrize(
    ("fault", "reason", "again"),
    [("410", "gone", "list"), ("garbage", "garbage", "watch"), ("reset", "connection", "watch"), ("silence", "timeout", "watch"), ("end", "short", "watch")],
)  # fmt: skip
def test_a_fault_in_the_stream(fault: str, reason: str, again: str):
    @virtual_loop.scenario
    async def scenario():
        api = model_api.ModelApi()
        api.put("pod")
        async with following(api) as (source, sink):
            await asyncio.sleep(0.5)
            api.fault(fault)
            await asyncio.sleep(0.1)
            api.delete("pod")
            await asyncio.sleep(100)
            assert sink.versions() == {}
            assert source.counts.errors == {("pods", reason): 1}
            assert verbs(api)[2] == again

    scenario()


@pytest.mark.parametrize("fault", [*model_api.REFUSALS, "garbage", "silence"])
def test_a_fault_that_stays_is_asked_ever_more_rarely_and_ends(fault: str):
    @virtual_loop.scenario
    async def scenario():
        api = model_api.ModelApi()
        api.put("pod")
        for _ in range(1000):
            api.fault(fault)
        async with following(api) as (source, sink):
            await asyncio.sleep(HOUR_S)
            assert not source.is_synced()
            assert HOUR_S / 135 <= len(api.requests) <= HOUR_S / backoff.MOST_S + 10
            waits = [
                later[0] - one[0]
                for one, later in zip(api.requests, api.requests[1:], strict=False)
            ]
            assert min(waits) >= backoff.FIRST_S
            assert "cannot list" in source.describe()
            api.faults.clear()
            await asyncio.sleep(150)
            assert source.is_synced()
            assert sink.versions() == api.versions()
            assert source.describe() == "API server https://model:6443: pods watched"

    scenario()


@virtual_loop.scenario
async def test_the_server_s_delay_is_obeyed():
    api = model_api.ModelApi()
    api.fault("429")
    async with following(api):
        await asyncio.sleep(20)
    assert api.requests[1][0] - api.requests[0][0] >= 7


@pytest.mark.parametrize(("fault", "reason"), [("garbage", "garbage"), ("silence", "timeout")])
def test_what_stays_unreadable_or_silent_is_listed(fault: str, reason: str):
    @virtual_loop.scenario
    async def scenario():
        api = model_api.ModelApi()
        async with following(api) as (source, _):
            await asyncio.sleep(1)
            api.fault(fault)
            api.fault(fault)
            await asyncio.sleep(220)
            assert source.counts.errors == {("pods", reason): 2}
        assert verbs(api) == ["list", "watch", "watch", "list", "watch"]

    scenario()


@virtual_loop.scenario
async def test_an_object_that_cannot_be_read_is_counted_and_the_rest_is_told(caplog):
    api = model_api.ModelApi()
    api.put("odd")
    api.put("good")
    api.objects["odd"]["status"] = "odd"
    async with following(api) as (source, sink):
        await asyncio.sleep(1)
        assert list(sink.versions()) == ["good"]
        assert source.counts.errors == {("pods", "undecodable"): 1}
    assert "left out" in caplog.text


def test_a_missing_right_is_named_once(caplog):
    @virtual_loop.scenario
    async def scenario():
        api = model_api.ModelApi()
        for _ in range(3):
            api.fault("403")
        async with following(api):
            await asyncio.sleep(20)

    with caplog.at_level(logging.INFO):
        scenario()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "https://model:6443: pods cannot list: 403 Forbidden; grant `list` on `pods` to the agent",
        "https://model:6443: pods watched",
    ]


NAMES = st.sampled_from([f"pod-{number}" for number in range(130)])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES),
    st.tuples(st.just("fill"), st.integers(90, 130)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("compact")),
    st.tuples(st.just("fault"), st.sampled_from([*model_api.REFUSALS, "garbage", "silence", "end"])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0, 400.0])),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=30))
@virtual_loop.scenario
async def test_after_any_course_of_events_the_sink_has_what_the_server_has(steps: list[tuple]):
    api = model_api.ModelApi()
    async with following(api) as (_, sink):
        for name, *arguments in steps:
            match name:
                case "wait":
                    await asyncio.sleep(arguments[0])
                case "fill":
                    for number in range(arguments[0]):
                        api.put(f"pod-{number}")
                case _:
                    getattr(api, name)(*arguments)
        await asyncio.sleep(HOUR_S)

        assert sink.versions() == api.versions()
        assert not sink.went_back
    _assert_no_hot_loop(api)


def _assert_no_hot_loop(api: model_api.ModelApi) -> None:
    """Any five requests that are no further pages take at least the first wait."""
    times_s = [time_s for time_s, _, query in api.requests if "continue" not in query]
    assert all(
        later - one >= backoff.FIRST_S for one, later in zip(times_s, times_s[4:], strict=False)
    )
