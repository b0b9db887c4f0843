"""The API server of the tests is a real one: it authenticates, authorises, validates and forgets.

If this fails, look at the double and not at the agent.
"""

from __future__ import annotations

from typing import Any

import pytest
from doubles import kube_apiserver, kube_client, kube_objects

pytestmark = pytest.mark.go

PODS = "/api/v1/namespaces/{}/pods"


def _refusal(server: kube_apiserver.ApiServer, *request: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(kube_client.Refused) as refused:
        server.request(*request, **options)
    return refused.value.status, str(refused.value)


def test_it_is_the_version_of_its_go_mod(api_server: kube_apiserver.ApiServer) -> None:
    assert api_server.request("GET", "/version")["gitVersion"].startswith("v1.34.")


def test_a_wrong_token_is_401(api_server: kube_apiserver.ApiServer) -> None:
    assert _refusal(api_server, "GET", "/api/v1/pods", token="wrong")[0] == 401


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(
    api_server: kube_apiserver.ApiServer, namespace: str
) -> None:
    api_server.apply(*kube_objects.reader(namespace, "lister", "list"))
    token = api_server.token_of(namespace, "lister")

    assert api_server.request("GET", PODS.format(namespace), token=token)["kind"] == "PodList"
    status, said = _refusal(api_server, "GET", PODS.format(namespace) + "?watch=1", token=token)
    assert status == 403
    assert f'"system:serviceaccount:{namespace}:lister" cannot watch resource "pods"' in said
    assert _refusal(api_server, "GET", PODS.format("default"), token=token)[0] == 403


def test_an_unknown_field_is_refused(api_server: kube_apiserver.ApiServer, namespace: str) -> None:
    pod = kube_objects.pod("odd", namespace)
    pod["spec"]["memoryLimit"] = "64Mi"

    with pytest.raises(kube_client.Refused, match="memoryLimit: field not declared in schema"):
        api_server.apply(pod)


def test_a_status_is_set_and_a_pod_goes_at_once(
    api_server: kube_apiserver.ApiServer, namespace: str
) -> None:
    pod = kube_objects.pod("one", namespace)
    api_server.apply(pod)
    stored = api_server.set_status(pod, {"phase": "Running", "podIP": "10.1.2.3"})

    assert stored["status"]["podIPs"] == [{"ip": "10.1.2.3"}]
    api_server.delete(pod)
    assert api_server.request("GET", PODS.format(namespace))["items"] == []


def test_a_watch_from_before_a_compaction_is_410(
    api_server: kube_apiserver.ApiServer, namespace: str
) -> None:
    pod = kube_objects.pod("old", namespace)
    [stored] = api_server.apply(pod)
    api_server.set_status(pod, {"phase": "Running"})
    api_server.compact()
    api_server.stop()
    api_server.start()

    since = stored["metadata"]["resourceVersion"]
    event = api_server.request("GET", f"/api/v1/pods?watch=1&resourceVersion={int(since) - 1}")

    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
