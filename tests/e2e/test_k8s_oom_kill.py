"""Pods that a real kubelet runs are OOM-killed, and the collector's file says who they were.

Who was killed is told by the kernel alone: a victim's command is its pod's and its container's
name, and its cgroup ends in the pod's UID and the container's id.
"""

from __future__ import annotations

import contextlib
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import (
    agent_process,
    collected,
    kube_apiserver,
    kube_node,
    kube_objects,
    kubeconfig,
    kubelet,
)
from doubles import real_collector as collector_

from otel_oom.kubernetes import paths

pytestmark = [pytest.mark.root, pytest.mark.containerd, pytest.mark.go]

METADATA = [
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.replicaset.name",
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "service.name",
    "service.namespace",
]


@pytest.fixture(scope="module")
def cluster(
    kubernetes_binaries: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[kube_node.Cluster]:
    with kube_node.running(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module", params=["api_server", "kubelet"])
def collector(
    request: pytest.FixtureRequest,
    cluster: kube_node.Cluster,
    collector_binary: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[collector_.Collector]:
    """A real collector, and an agent that sends to it with each source of names."""
    folder = tmp_path_factory.mktemp(request.param)
    token = cluster.api.token_of("default", kube_node.READER)
    within, environment = kubeconfig.as_in_a_pod(folder, cluster.api, token)
    with collector_.running(collector_binary, folder) as running:
        exporters = agent_process.plain_grpc(running.grpc_endpoint)
        named = {"k8s_attributes": options(cluster, request.param)}
        config = agent_process.config(folder, exporters, processors=named)
        with agent_process.running(config, folder, within=within, environment=environment) as agent:
            yield running
            stopped = agent.stop()
    assert stopped.status == 0, stopped.stderr
    assert all(of["delivered"] == of["produced"] for of in stopped.sums.values()), stopped.stderr


def options(cluster: kube_node.Cluster, source: str) -> dict[str, Any]:
    """Of the processor, as a DaemonSet has them."""
    own = {"endpoint": cluster.node.url, "ca_file": str(cluster.node.ca)}
    return {
        "source": source,
        "extract": {"metadata": METADATA},
        "filter": {"node": "node-1"},
        **({"kubelet": own} if source == "kubelet" else {}),
    }


class Scene:
    """A namespace with pods that are killed in it."""

    def __init__(self, cluster: kube_node.Cluster, collector: collector_.Collector) -> None:
        self.cluster, self._collector = cluster, collector
        self.namespace = f"shop-{uuid.uuid4().hex[:8]}"
        self.pods: list[dict[str, Any]] = []
        cluster.api.apply(kube_objects.namespace(self.namespace))

    def run(self, name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
        """A pod of the Deployment `cart`."""
        asked = kubelet.pod(name, *containers, spec=spec)
        pod = self.cluster.run(self.cluster.deployed(self.namespace, "cart", asked))
        self.pods.append(pod)
        return pod

    def kills(self, pod_uid: str, count: int = 1) -> list[collected.Found]:
        """The records of its victims in the order of their deaths, once there are so many."""
        found = collected.until(
            lambda: collected.at_least(self._of(pod_uid), count), f"{count} kills"
        )
        return sorted(found, key=lambda each: each.item.time_unix_nano)

    def _of(self, pod_uid: str) -> list[collected.Found]:
        part = f"/pod{pod_uid}/"
        logs = collected.logs(self._collector)
        return [each for each in logs if part in each.attributes.get("process.linux.cgroup", "")]

    def hash_of(self, name: str) -> str:
        """What a static pod's cgroup is called after."""
        (found,) = collected.until(
            lambda: [
                pod["metadata"]["annotations"]["kubernetes.io/config.hash"]
                for pod in self.cluster.node.pods(kube_apiserver.ADMIN)
                if pod["metadata"]["name"].startswith(name)
            ],
            "the static pod",
        )
        return str(found)

    def until_running(self, pod: dict[str, Any]) -> None:
        collected.until(
            lambda: self.cluster.now(pod)["status"].get("phase") == "Running", "the running pod"
        )

    def close(self) -> None:
        for pod in self.pods:
            with contextlib.suppress(Exception):  # a test may have deleted it
                self.cluster.api.delete(pod)


@pytest.fixture
def scene(cluster: kube_node.Cluster, collector: collector_.Collector) -> Iterator[Scene]:
    made = Scene(cluster, collector)
    yield made
    made.close()


def check(scene: Scene, found: collected.Found, pod: dict[str, Any], container: str) -> None:
    """The record names this pod and container, its owners and its service."""
    meta = pod["metadata"]
    workload = paths.parse(found.attributes["process.linux.cgroup"])
    expected = {
        "k8s.match": "container_id",
        "k8s.namespace.name": scene.namespace,
        "k8s.pod.name": meta["name"],
        "k8s.pod.uid": meta["uid"],
        "k8s.node.name": "node-1",
        "k8s.deployment.name": "cart",
        "k8s.replicaset.name": meta["ownerReferences"][0]["name"],
        "k8s.container.name": container,
        "container.id": workload.container_id,
        "container.image.name": "otel-oom.test/hog",
        "service.name": "cart",
        "service.namespace": scene.namespace,
    }
    assert {key: found.resource.get(key) for key in expected} == expected
    assert "k8s.miss" not in found.resource


def eater(name: str) -> dict[str, Any]:
    """A container that is killed in the first second of its life."""
    return kubelet.container(name, "hog", f"comm={name}", "eat=100M")


def idle(name: str) -> dict[str, Any]:
    return kubelet.container(name, "hog", f"comm={name}", "pause")


def test_first_second_of_life_and_every_instance_before(scene: Scene) -> None:
    """One of two containers dies and is started again: three kills of three instances."""
    pod = scene.run("one", eater("main"), idle("other"))

    found = scene.kills(pod["metadata"]["uid"], 3)[:3]

    for each in found:
        check(scene, each, pod, "main")
    assert len({each.resource["container.id"] for each in found}) == 3
    counts = [each.attributes["k8s.container.restart_count"] for each in found]
    assert counts == [0, 1, 2]


def test_init_container(scene: Scene) -> None:
    pod = scene.run("init", idle("main"), initContainers=[eater("prepare")], restartPolicy="Never")

    (found,) = scene.kills(pod["metadata"]["uid"])

    check(scene, found, pod, "prepare")


def test_ephemeral_container(scene: Scene) -> None:
    """It has no limit of its own and dies by the pod's."""
    pod = scene.run("debugged", idle("main"))
    scene.until_running(pod)
    debugger = eater("debugger")
    del debugger["resources"]
    scene.cluster.add_ephemeral(pod, debugger)

    found = scene.kills(pod["metadata"]["uid"])[0]

    check(scene, found, pod, "debugger")
    assert found.attributes["process.executable.name"] == "debugger"
    assert found.attributes["oom.limit.cgroup"].endswith(f"/pod{pod['metadata']['uid']}")


def test_worker_whose_first_process_lives(scene: Scene) -> None:
    """The kubelet sees nothing of it: the container never ended."""
    steps = ["hog", "spawn", "comm=worker", "eat=100M", "parent", "pause"]
    pod = scene.run("workers", kubelet.container("main", *steps))

    (found,) = scene.kills(pod["metadata"]["uid"])

    check(scene, found, pod, "main")
    assert found.attributes["process.executable.name"] == "worker"
    (status,) = scene.cluster.now(pod)["status"]["containerStatuses"]
    assert status.get("restartCount") == 0


def test_pod_that_is_gone_when_it_is_killed(scene: Scene) -> None:
    """Deleted by force: the API server forgets it at once, and then it eats instead of ending.

    A worker of it dies before, so that whoever is asked for names has seen the pod.
    """
    loop = "trap 'exec hog comm=main eat=100M' TERM; while :; do sleep 0.1; done"
    script = f"hog comm=worker eat=100M; {loop}"
    pod = scene.run("short", kubelet.container("main", "sh", "-c", script))
    scene.kills(pod["metadata"]["uid"])
    scene.cluster.api.delete(pod)

    worker, main = scene.kills(pod["metadata"]["uid"], 2)

    check(scene, worker, pod, "main")
    check(scene, main, pod, "main")
    assert main.attributes["process.executable.name"] == "main"


def test_static_pod(scene: Scene) -> None:
    """Its cgroup has the hash of its file, which is no object's UID."""
    name = f"static-{uuid.uuid4().hex[:8]}"
    node = scene.cluster.node
    node.run(kubelet.pod(name, eater("main"), metadata={"namespace": scene.namespace}))
    try:
        found = scene.kills(scene.hash_of(name))[0]
    finally:
        node.stop_pod(name)

    assert found.resource["k8s.pod.name"] == f"{name}-node-1"
    assert found.resource["k8s.namespace.name"] == scene.namespace
    assert found.resource["k8s.container.name"] == "main"
