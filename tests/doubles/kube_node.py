"""A cluster of one node that runs pods: the real API server, kubelet, containerd and runc.

    with kube_node.running(tmp_path) as cluster:
        pod = cluster.run(kubelet.pod("eater", kubelet.container("main", "hog", "eat=100M")))

No controller runs: the ReplicaSet of a Deployment, and its pods, are made by `deployed`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from doubles import containerd, kube_apiserver, kube_objects, kubelet

READER = "agent"
"""The service account, in `default`, that may read what an agent reads."""
_RBAC = "rbac.authorization.k8s.io"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Its parts."""

    api: kube_apiserver.ApiServer
    node: kubelet.Kubelet
    runtime: containerd.Containerd

    def run(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Ask for a pod; the kubelet starts it. As the API server keeps it."""
        (stored,) = self.api.apply(pod)
        return dict(stored)

    def now(self, pod: dict[str, Any]) -> dict[str, Any]:
        """The pod as it is now."""
        return dict(self.api.request("GET", self.api.path_of(pod)))

    def add_ephemeral(self, pod: dict[str, Any], *containers: dict[str, Any]) -> None:
        """As `kubectl debug` does it."""
        path = self.api.path_of(pod) + "/ephemeralcontainers"
        added = {"spec": {"ephemeralContainers": list(containers)}}
        kind = "application/strategic-merge-patch+json"
        self.api.request("PATCH", path, added, content_type=kind)

    def deployed(self, namespace: str, name: str, pod: dict[str, Any]) -> dict[str, Any]:
        """The pod as a Deployment's ReplicaSet would make it."""
        labels, suffix = {"app": name}, {"pod-template-hash": "7c9f6d5b8"}
        pod_spec = pod["spec"] | {"restartPolicy": "Always"}  # a Deployment allows no other
        template = {"metadata": {"labels": labels | suffix}, "spec": pod_spec}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        (deployment,) = self.api.apply(_app("Deployment", namespace, name, spec, None))
        owner = kube_objects.owned_by(deployment)
        replicas = f"{name}-{suffix['pod-template-hash']}"
        (made,) = self.api.apply(_app("ReplicaSet", namespace, replicas, spec, owner))
        metadata = {
            "name": f"{replicas}-{pod['metadata']['name']}",
            "namespace": namespace,
            "labels": labels | suffix | pod["metadata"].get("labels", {}),
            "ownerReferences": [kube_objects.owned_by(made)],
        }
        return pod | {"metadata": metadata}


def _app(
    kind: str, namespace: str, name: str, spec: dict[str, Any], owner: dict[str, Any] | None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[Cluster]:
    """A cluster with its state in `folder`; all of it is gone at the end."""
    with (
        kube_apiserver.running(folder) as api,
        containerd.running(cri=True) as runtime,
        kubelet.running(runtime, api) as node,
    ):
        api.apply(*_reader())
        yield Cluster(api, node, runtime)


def _reader() -> list[dict[str, Any]]:
    """A service account that may look at all, and at the kubelet's pods."""
    account = {"name": READER, "namespace": "default"}
    look = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["pods", "namespaces", "nodes"], "verbs": look},
        {"apiGroups": [""], "resources": ["nodes/pods", "nodes/proxy"], "verbs": ["get"]},
        {"apiGroups": ["apps", "batch"], "resources": ["*"], "verbs": look},
    ]
    meta = {"name": READER}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": READER},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]
