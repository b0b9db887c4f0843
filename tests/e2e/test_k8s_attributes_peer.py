"""Our `k8s_attributes` beside the collector's own: same options, same resources, same API server.

What differs is listed in doubles/k8s_differences.py with its reason, and nothing else does; besides,
each of our records says how it was matched, or why it was not.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
from doubles import (
    k8s_differences,
    k8s_shop,
    k8s_sides,
    kube_apiserver,
    kube_objects,
    real_collector,
)

pytestmark = pytest.mark.go


@pytest.fixture(scope="module")
def shop(api_server: kube_apiserver.ApiServer) -> Iterator[k8s_shop.Shop]:
    """One cluster for all blocks; its pods go at the end."""
    api_server.apply(kube_objects.namespace(k8s_shop.NAMESPACE))
    yield k8s_shop.build(api_server, k8s_shop.NAMESPACE)
    base = f"/api/v1/namespaces/{k8s_shop.NAMESPACE}"
    api_server.request("DELETE", f"{base}/pods?gracePeriodSeconds=0")
    api_server.request("DELETE", f"/api/v1/nodes/{kube_apiserver.NODE}")


@pytest.fixture(scope="module")
def binary() -> pathlib.Path:
    try:
        return real_collector.build("k8sattributes")
    except real_collector.BuildFailed as error:
        pytest.skip(f"needs the collector's Go modules, which did not come: {error}; check GOPROXY")


@pytest.mark.parametrize("name", k8s_sides.BLOCKS)
async def test_both_say_the_same_but_for_what_is_listed(
    *,
    name: str,
    binary: pathlib.Path,
    shop: k8s_shop.Shop,
    api_server: kube_apiserver.ApiServer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kubeconfig = k8s_sides.kubeconfig(api_server, tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    block, cases = k8s_sides.BLOCKS[name], k8s_shop.cases(shop)
    with k8s_sides.collector(binary, tmp_path, block, kubeconfig) as peer:
        theirs = k8s_sides.theirs(peer, cases)
    ours = await k8s_sides.ours(block, cases)
    assert all({"k8s.match", "k8s.miss"} & found.keys() for found in ours.values())

    found = k8s_differences.between(theirs, ours)

    assert k8s_differences.unlisted(name, found) == {}
    assert k8s_differences.unfound(name, found) == []


async def test_the_connection_names_the_sender_there_and_nobody_here(
    *,
    binary: pathlib.Path,
    shop: k8s_shop.Shop,
    api_server: kube_apiserver.ApiServer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here such a rule finds nothing, and what comes after it is as without one."""
    kubeconfig = k8s_sides.kubeconfig(api_server, tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    block, cases = k8s_sides.BLOCKS["connection"], k8s_shop.cases(shop)
    with k8s_sides.collector(binary, tmp_path, block, kubeconfig) as peer:
        theirs = k8s_sides.theirs(peer, cases)
    without = block.replace("pod_association", "# ")

    assert without != block
    assert await k8s_sides.ours(block, cases) == await k8s_sides.ours(without, cases)
    sender = {"k8s.pod.name": shop.name("sender"), "k8s.pod.uid": shop.uid("sender")}
    for case, attributes in cases.items():
        named = {key: theirs[case][key] for key in sender}
        assert named == sender | {key: attributes[key] for key in sender.keys() & attributes.keys()}


async def test_passing_through_adds_the_senders_address_there_and_how_it_was_matched_here(
    *,
    binary: pathlib.Path,
    shop: k8s_shop.Shop,
    api_server: kube_apiserver.ApiServer,
    tmp_path: pathlib.Path,
) -> None:
    kubeconfig = k8s_sides.kubeconfig(api_server, tmp_path)
    block, cases = k8s_sides.BLOCKS["passthrough"], k8s_shop.cases(shop)
    with k8s_sides.collector(binary, tmp_path, block, kubeconfig) as peer:
        theirs = k8s_sides.theirs(peer, cases)
    ours = await k8s_sides.ours(block, cases)
    for case, attributes in cases.items():
        assert theirs[case] == {"k8s.pod.ip": k8s_shop.SENDER_IP} | attributes
        assert ours[case].keys() - attributes.keys() <= {"k8s.match", "k8s.miss"}
        assert {key: ours[case][key] for key in attributes} == attributes


def test_the_page_has_the_list() -> None:
    assert k8s_differences.table() in k8s_differences.PAGE.read_text(), k8s_differences.table()
