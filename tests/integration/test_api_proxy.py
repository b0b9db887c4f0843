"""The proxy of the fault tests passes on what it should, and spoils what it is told to.

If this fails, look at the double and not at the agent.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import pathlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from doubles import api_faults, api_proxy, kube_apiserver, kube_client, kube_objects

pytestmark = pytest.mark.go

Api = api_proxy.FaultyApi


@pytest_asyncio.fixture
async def api(api_server: kube_apiserver.ApiServer, tmp_path: pathlib.Path) -> AsyncIterator[Api]:
    proxy = Api(api_server, tmp_path)
    await proxy.start()
    yield proxy
    await proxy.stop()


class Watch:
    """A plain client's watch of a namespace's pods, read line by line."""

    def __init__(self, api: Api, namespace: str) -> None:
        context = ssl.create_default_context(cafile=str(api.ca))
        self._connection = http.client.HTTPSConnection(
            "localhost", api.port, timeout=20, context=context
        )
        path = f"/api/v1/namespaces/{namespace}/pods?watch=1"
        headers = {"Authorization": f"Bearer {kube_apiserver.ADMIN}"}
        self._connection.request("GET", path, headers=headers)
        self._answer = self._connection.getresponse()

    def next(self) -> Any:
        line = self._answer.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


async def _list(api: Api, namespace: str) -> Any:
    client = kube_client.Client(api.port, api.ca, kube_apiserver.ADMIN)
    return await asyncio.to_thread(client.request, "GET", f"/api/v1/namespaces/{namespace}/pods")


async def test_a_list_passes_whole(
    api: Api, api_server: kube_apiserver.ApiServer, namespace: str
) -> None:
    api_server.apply(*(kube_objects.pod(f"pod-{i}", namespace) for i in range(50)))

    assert len((await _list(api, namespace))["items"]) == 50
    assert [one.is_watch for one in api.requests] == [False]


async def test_events_pass_and_another_is_put_between(
    api: Api, api_server: kube_apiserver.ApiServer, namespace: str
) -> None:
    api_server.apply(kube_objects.pod("one", namespace))
    watch = await asyncio.to_thread(Watch, api, namespace)
    first = await asyncio.to_thread(watch.next)
    [stream] = api.streams
    stream.event("ERROR", api_faults.GONE)
    api_server.apply(kube_objects.pod("two", namespace))
    second, third = [await asyncio.to_thread(watch.next) for _ in range(2)]
    stream.end()

    assert [event["type"] for event in (first, second, third)] == ["ADDED", "ERROR", "ADDED"]
    assert third["object"]["metadata"]["name"] == "two"
    assert await asyncio.to_thread(watch.next) is None
    watch.close()
    while api.streams:
        await asyncio.sleep(0.01)


async def test_a_reset_is_one(api: Api, namespace: str) -> None:
    api.fault = api_faults.reset

    with pytest.raises(ConnectionResetError):
        await _list(api, namespace)


async def test_a_status_has_its_headers(api: Api, namespace: str) -> None:
    api.fault = api_faults.status(429, "TooManyRequests", Retry_After="2")

    with pytest.raises(kube_client.Refused) as refused:
        await _list(api, namespace)

    assert refused.value.answer["code"] == 429
    assert api.requests[0].headers["authorization"] == f"Bearer {kube_apiserver.ADMIN}"


async def test_a_stream_resets(
    api: Api, api_server: kube_apiserver.ApiServer, namespace: str
) -> None:
    """Read with asyncio: the ssl module's own sockets take a reset for an end."""
    api_server.apply(kube_objects.pod("one", namespace))
    context = ssl.create_default_context(cafile=str(api.ca))
    reader, writer = await asyncio.open_connection("localhost", api.port, ssl=context)
    token = f"Authorization: Bearer {kube_apiserver.ADMIN}"
    path = f"/api/v1/namespaces/{namespace}/pods?watch=1"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n\r\n".encode())
    await reader.readuntil(b"ADDED")
    api.streams[0].reset()

    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_an_unknown_authority_is_not_trusted_until_it_is_published(
    api: Api, namespace: str
) -> None:
    await api.rotate_authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        await _list(api, namespace)

    api.publish_authority()

    assert (await _list(api, namespace))["items"] == []


async def test_it_is_away_and_back_on_the_same_port(api: Api, namespace: str) -> None:
    await api.stop()
    with pytest.raises(ConnectionRefusedError):
        await _list(api, namespace)

    await api.start()

    assert (await _list(api, namespace))["items"] == []
