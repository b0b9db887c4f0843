"""The reflector and a real API server between which everything goes wrong that can.

Of every fault: it is survived and counted, requests stay few, and afterwards what the sink has is
what the server has, although pods changed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from doubles import api_faults, api_proxy, kube_apiserver, kube_objects, kube_sink

from otel_oom.kubernetes import api as kubernetes_api
from otel_oom.kubernetes import credentials, reflector
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.targets import Selection

pytestmark = pytest.mark.go

LIMITS = kubernetes_api.Limits(answer_s=1.0, silence_s=3.0)
"""Shorter than the agent's, so that a test sees them pass."""
SEEN_S = 2.0
"""How long a fault lasts after it was first counted."""
MOST_REQUESTS = 5
"""Within a fault: the waits between them are at least 0.5, 1, 2 and 4 s. A hot loop makes hundreds."""
PATIENCE_S = 60.0

Spoil = Callable[[api_proxy.Exchange], object]


@dataclasses.dataclass
class Cluster:
    """A namespace of the real API server, the proxy before it, and who follows its pods."""

    server: kube_apiserver.ApiServer
    proxy: api_proxy.FaultyApi
    namespace: str
    token_file: pathlib.Path
    source: reflector.Reflector
    sink: kube_sink.Kept = dataclasses.field(default_factory=kube_sink.Kept)

    def put(self, name: str, **labels: str) -> None:
        self.server.apply(kube_objects.pod(name, self.namespace, labels=labels))

    def remove(self, name: str) -> None:
        self.server.delete(kube_objects.pod(name, self.namespace))

    def there(self) -> dict[str, str]:
        """Names and versions of the pods that the API server has."""
        listed = self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")
        metas = [one["metadata"] for one in listed["items"]]
        return {meta["name"]: meta["resourceVersion"] for meta in metas}

    def errors(self, reason: str) -> int:
        return self.source.counts.errors[Kind.POD, reason]

    async def until_told(self) -> None:
        """Until the sink has what the server has, and one watch is open."""
        there = self.there()
        async with asyncio.timeout(PATIENCE_S):
            while self.sink.versions() != there or not self.source.is_synced():
                await asyncio.sleep(0.02)
            await self.proxy.stream()
        assert self.sink.went_back == []

    async def until_counted(self, reason: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.errors(reason):
                await asyncio.sleep(0.02)

    def change_all(self) -> None:
        """One pod goes, one changes, one comes."""
        self.remove("goes")
        self.put("changes", version="2")
        self.put("comes")


@pytest_asyncio.fixture
async def cluster(
    api_server: kube_apiserver.ApiServer, namespace: str, tmp_path: pathlib.Path
) -> AsyncIterator[Cluster]:
    """With pods, and the proxy up; nobody follows yet."""
    proxy = api_proxy.FaultyApi(api_server, tmp_path)
    await proxy.start()
    token_file = tmp_path / "token"
    token_file.write_text(kube_apiserver.ADMIN)
    who = credentials.FileCredentials(proxy.url, token_file=token_file, ca_file=proxy.ca)
    api = kubernetes_api.Api(who, user_agent="test", limits=LIMITS)
    source = reflector.Reflector(api, {Kind.POD: Selection(namespace=namespace)})
    found = Cluster(api_server, proxy, namespace, token_file, source)
    for name in ("stays", "goes", "changes"):
        found.put(name)
    yield found
    await proxy.stop()


@contextlib.asynccontextmanager
async def following(cluster: Cluster) -> AsyncIterator[None]:
    """The reflector runs, and has not ended by itself."""
    task = asyncio.create_task(cluster.source.run(cluster.sink))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


def _reset(stream: api_proxy.Exchange) -> None:
    stream.reset()


def _forget(stream: api_proxy.Exchange) -> None:
    stream.event("ERROR", api_faults.GONE)
    stream.end()


def _mute(stream: api_proxy.Exchange) -> None:
    stream.silent = True


def _garble(stream: api_proxy.Exchange) -> None:
    stream.line(b'{"type":"ADDED","object":{"metadata":')


def _end(stream: api_proxy.Exchange) -> None:
    stream.end()


ANSWERS = {
    "401": (api_faults.status(401, "Unauthorized"), "unauthorized"),
    "403": (api_faults.status(403, "Forbidden"), "forbidden"),
    "410": (api_faults.status(410, "Expired"), "gone"),
    "429": (api_faults.status(429, "TooManyRequests", Retry_After="2"), "throttled"),
    "500": (api_faults.status(500, "InternalError"), "server_error"),
    "redirect": (api_faults.status(302, "Found", Location="https://elsewhere/"), "refused"),
    "silence": (api_faults.silence, "timeout"),
    "one byte a second": (api_faults.slowly(1), "timeout"),
    "garbage for JSON": (api_faults.body(b"<html>no JSON</html>\n"), "garbage"),
    "garbage for HTTP": (api_faults.raw(b"\x00\xff no HTTP\r\n\r\n"), "connection"),
    "half an answer": (api_faults.raw(b"HTTP/1.1 200 OK\r\nContent-"), "connection"),
    "reset": (api_faults.reset, "connection"),
}
"""What every request gets once the stream that was open is reset, and the word it is counted by."""


@pytest.mark.parametrize(("step", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_is_none(cluster: Cluster, step: api_proxy.Step, reason: str) -> None:
    async with following(cluster):
        await cluster.until_told()
        asked = len(cluster.proxy.requests)
        cluster.proxy.fault = step
        cluster.proxy.streams[0].reset()
        cluster.change_all()
        await cluster.until_counted(reason)
        await asyncio.sleep(SEEN_S)
        assert len(cluster.proxy.requests) - asked <= MOST_REQUESTS
        assert "cannot" in cluster.source.describe()

        cluster.proxy.fault = None
        await cluster.until_told()


@pytest.mark.parametrize(("step", "reason"), ANSWERS.values(), ids=ANSWERS)
async def test_no_answer_at_the_start(cluster: Cluster, step: api_proxy.Step, reason: str) -> None:
    cluster.proxy.fault = step
    async with following(cluster):
        await cluster.until_counted(reason)
        await asyncio.sleep(SEEN_S)
        assert len(cluster.proxy.requests) <= MOST_REQUESTS
        assert not cluster.source.is_synced()
        assert cluster.sink.replaced == []

        cluster.proxy.fault = None
        await cluster.until_told()


STREAMS = {
    "reset": (_reset, "connection"),
    "410": (_forget, "gone"),
    "silence": (_mute, "timeout"),
    "garbage": (_garble, "garbage"),
}
"""What befalls an open watch, and the word it is counted by."""


@pytest.mark.parametrize(("spoil", "reason"), STREAMS.values(), ids=STREAMS)
async def test_a_stream_that_breaks(cluster: Cluster, spoil: Spoil, reason: str) -> None:
    async with following(cluster):
        await cluster.until_told()
        asked = len(cluster.proxy.requests)
        spoil(cluster.proxy.streams[0])
        cluster.change_all()
        await cluster.until_counted(reason)
        await cluster.until_told()

        again = cluster.proxy.requests[asked:]
        assert len(again) <= MOST_REQUESTS
        lists = [one for one in again if not one.is_watch]
        assert bool(lists) is (reason == "gone")  # nothing else makes it list again


async def test_a_stream_that_breaks_again_and_again(cluster: Cluster) -> None:
    """The waits grow although each watch begins well."""
    async with following(cluster):
        await cluster.until_told()
        asked = len(cluster.proxy.requests)
        ends = asyncio.get_running_loop().time() + SEEN_S
        while asyncio.get_running_loop().time() < ends:
            for stream in list(cluster.proxy.streams):
                _forget(stream)
            await asyncio.sleep(0.02)

        assert len(cluster.proxy.requests) - asked <= 2 * MOST_REQUESTS  # a list and a watch each
        cluster.change_all()
        await cluster.until_told()


async def test_a_watch_whose_time_is_up_goes_on_where_it_was(cluster: Cluster) -> None:
    async with following(cluster):
        await cluster.until_told()
        await asyncio.sleep(1.1)  # else it was too short to be an end
        asked = len(cluster.proxy.requests)
        _end(cluster.proxy.streams[0])
        cluster.change_all()
        await cluster.until_told()

    assert [one.is_watch for one in cluster.proxy.requests[asked:]] == [True]
    assert not cluster.source.counts.errors


async def test_the_wait_that_the_server_asks_for_is_kept(cluster: Cluster) -> None:
    cluster.proxy.fault = api_faults.status(429, "TooManyRequests", Retry_After="2")
    async with following(cluster):
        async with asyncio.timeout(PATIENCE_S):
            while len(cluster.proxy.requests) < 3:
                await asyncio.sleep(0.02)

    first, second, third = (one.at for one in cluster.proxy.requests)
    assert second - first >= 2
    assert third - second >= 2


async def test_another_token_is_used_as_soon_as_it_is_there(cluster: Cluster) -> None:
    """As a kubelet renews it; between, it is one that the server does not know."""
    cluster.server.apply(*kube_objects.reader(cluster.namespace, "agent", "list", "watch"))
    cluster.token_file.write_text(cluster.server.token_of(cluster.namespace, "agent"))
    async with following(cluster):
        await cluster.until_told()
        cluster.token_file.write_text("expired")
        cluster.proxy.streams[0].reset()
        await cluster.until_counted("unauthorized")
        cluster.change_all()

        cluster.token_file.write_text(cluster.server.token_of(cluster.namespace, "agent"))
        await cluster.until_told()


async def test_another_authority_is_trusted_as_soon_as_it_is_there(cluster: Cluster) -> None:
    async with following(cluster):
        await cluster.until_told()
        asked = len(cluster.proxy.requests)
        await cluster.proxy.rotate_authority()
        cluster.change_all()
        before = cluster.errors("connection")
        async with asyncio.timeout(PATIENCE_S):
            while cluster.errors("connection") < before + 2:
                await asyncio.sleep(0.02)
        assert len(cluster.proxy.requests) == asked  # no token for who is not trusted
        assert "certificate" in cluster.source.describe()

        cluster.proxy.publish_authority()
        await cluster.until_told()


async def test_a_server_that_is_away_at_the_start_and_comes_back(cluster: Cluster) -> None:
    await cluster.proxy.stop()
    async with following(cluster):
        await cluster.until_counted("connection")
        assert not cluster.source.is_synced()

        await cluster.proxy.start()
        await cluster.until_told()


@pytest.mark.parametrize("forgets", [False, True], ids=["with its past", "without its past"])
async def test_the_real_server_falls_and_comes_back(cluster: Cluster, forgets: bool) -> None:
    """Killed, and started again over an etcd that was compacted meanwhile: then it says 410."""
    async with following(cluster):
        await cluster.until_told()
        cluster.change_all()
        if forgets:
            cluster.proxy.fault = api_faults.reset  # what changed is not seen
            cluster.proxy.streams[0].reset()
            cluster.put("stays", version="2")
            cluster.server.compact()
        await asyncio.to_thread(cluster.server.stop, kill=True)
        await asyncio.to_thread(cluster.server.start)
        cluster.proxy.fault = None
        cluster.put("late")
        await cluster.until_told()

    assert cluster.errors("connection")
    assert bool(cluster.errors("gone")) is forgets
