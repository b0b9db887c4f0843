"""The kubelet of the tests is a real one: it runs pods, and tells how their containers ended.

If this fails, look at the double and not at the agent.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from doubles import containerd, kube_apiserver, kube_objects, kubelet

pytestmark = [pytest.mark.root, pytest.mark.containerd, pytest.mark.go]

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def runtime(kubernetes_binaries: None) -> Iterator[containerd.Containerd]:
    with containerd.running(cri=True) as made:
        yield made


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


def ended(status: dict[str, Any]) -> list[dict[str, Any]]:
    """How the container's instances ended, the last one first."""
    states = [status.get("state", {}), status.get("lastState", {})]
    return [state["terminated"] for state in states if "terminated" in state]


def killed_twice(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    statuses = [one for pod in pods for one in pod["status"].get("containerStatuses", [])]
    return [one for one in statuses if len(ended(one)) == 2]


def test_a_static_pod_is_killed_and_started_again(runtime: containerd.Containerd) -> None:
    with kubelet.running(runtime) as node:
        node.run(kubelet.pod("eater", kubelet.container("main", "hog", "eat=100M")))
        [status] = until(lambda: killed_twice(node.pods()))

    ends = ended(status)
    assert [one["reason"] for one in ends] == ["OOMKilled", "OOMKilled"]
    assert ends[0]["containerID"] != ends[1]["containerID"]


def test_a_pod_of_the_api_server_runs_and_dies(
    runtime: containerd.Containerd, tmp_path: pathlib.Path
) -> None:
    pod = kubelet.pod(
        "eater", kubelet.container("main", "hog", "eat=100M"), metadata={"namespace": "shop"}
    )
    with kube_apiserver.running(tmp_path) as api, kubelet.running(runtime, api) as node:
        api.apply(kube_objects.namespace("shop"), pod)
        until(lambda: killed_twice([api.request("GET", api.path_of(pod))]))
        seen = node.pods(token=kube_apiserver.ADMIN)
        with pytest.raises(AssertionError, match="401"):
            node.pods(token="nobody's")

    assert [one["metadata"]["namespace"] for one in seen] == ["shop"]
