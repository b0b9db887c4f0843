"""Kubernetes objects as the API takes them, as small as it lets them be."""

from __future__ import annotations

from typing import Any

from doubles import kube_apiserver


def namespace(name: str, **labels: str) -> dict[str, Any]:
    """v1 Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(
    name: str,
    namespace: str,
    *,
    node: str = kube_apiserver.NODE,
    owner: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    memory: str = "64Mi",
) -> dict[str, Any]:
    """v1 Pod with one container `main`, bound to a node without a scheduler."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": labels or {},
        "annotations": annotations or {},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    container = {
        "name": "main",
        "image": "registry.example/team/app:1.2.3",
        "resources": {"requests": {"memory": memory}, "limits": {"memory": memory}},
    }
    spec = {"nodeName": node, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def running(
    *, container_id: str, ip: str = "", restarts: int = 0, last_id: str = "", image_id: str = ""
) -> dict[str, Any]:
    """Status of a pod whose container `main` runs, with the id of its previous instance if any."""
    status = {
        "name": "main",
        "containerID": f"containerd://{container_id}",
        "image": "registry.example/team/app:1.2.3",
        "imageID": image_id,
        "ready": True,
        "restartCount": restarts,
        "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
    }
    if last_id:
        ended = {"exitCode": 137, "reason": "OOMKilled", "containerID": f"containerd://{last_id}"}
        status["lastState"] = {"terminated": ended}
    found: dict[str, Any] = {"phase": "Running", "startTime": "2026-01-02T03:04:00Z"}
    if ip:
        found |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    return {**found, "containerStatuses": [status]}


def owned_by(stored: dict[str, Any]) -> dict[str, Any]:
    """An owner reference to an object that the server has stored."""
    meta = stored["metadata"]
    return {
        "apiVersion": stored["apiVersion"],
        "kind": stored["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def reader(namespace: str, name: str, *verbs: str) -> list[dict[str, Any]]:
    """A service account, and a role of its own that lets it do this to the namespace's pods."""
    rbac = "rbac.authorization.k8s.io"
    meta = {"name": name, "namespace": namespace}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
    ]


def cluster_reader(namespace: str, name: str) -> list[dict[str, Any]]:
    """A service account that may list and watch what processors of attributes ask for, everywhere."""
    rbac = "rbac.authorization.k8s.io"
    core = ["pods", "namespaces", "nodes"]
    apps = ["replicasets", "deployments", "statefulsets", "daemonsets"]
    verbs = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": core, "verbs": verbs},
        {"apiGroups": ["apps"], "resources": apps, "verbs": verbs},
        {"apiGroups": ["batch"], "resources": ["jobs", "cronjobs"], "verbs": verbs},
    ]
    account = {"name": name, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]
