"""A small cluster on the real API server with every kind of owner, and whom records may name in it.

No controller runs, so what controllers make (ReplicaSets, Jobs, pods) is applied with the same owner
references and labels that they give.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from doubles import kube_apiserver, kube_objects

NAMESPACE = "shop"
IMAGE = "registry.example/team/app:1.2.3"
DIGEST = "registry.example/team/app@sha256:" + "d" * 64
SENDER_IP = "127.0.0.1"
"""Of the pod that a test's own connections seem to come from."""
NOWHERE = "00000000-0000-4000-8000-000000000000"


def container_id(number: int) -> str:
    """64 hexadecimal digits."""
    return f"{number:064x}"


@dataclasses.dataclass
class Shop:
    """The objects as the server has stored them, pods by a short name."""

    namespace: str
    pods: dict[str, dict[str, Any]]

    def uid(self, pod: str) -> str:
        return str(self.pods[pod]["metadata"]["uid"])

    def name(self, pod: str) -> str:
        return str(self.pods[pod]["metadata"]["name"])


def build(server: kube_apiserver.ApiServer, namespace: str) -> Shop:
    """Apply it all in a namespace that is there."""
    server.apply(_namespace(namespace), _node())
    owners = _owners(server, namespace)
    pods: dict[str, dict[str, Any]] = {}
    for number, (short, owner) in enumerate(owners.items(), 1):
        pods[short] = _pod(server, namespace, short, owner, number)
    return Shop(namespace, pods)


def _namespace(name: str) -> dict[str, Any]:
    found = kube_objects.namespace(name, team="blue", tier="front")
    found["metadata"]["annotations"] = {"contact": "shop@example"}
    return found


def _node() -> dict[str, Any]:
    labels = {"topology.kubernetes.io/zone": "zone-a", "disk": "ssd"}
    meta = {"name": kube_apiserver.NODE, "labels": labels, "annotations": {"rack": "7"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta}


def _owners(server: kube_apiserver.ApiServer, namespace: str) -> dict[str, dict[str, Any] | None]:
    """The controller of each pod, by the pod's short name; None for a pod of nobody."""

    def made(kind: str, name: str, owner: dict[str, Any] | None = None, **labels: str) -> Any:
        [stored] = server.apply(_workload(kind, name, namespace, owner, labels))
        return kube_objects.owned_by(stored)

    deployment = made("Deployment", "web", tier="gold")
    cron_job = made("CronJob", "nightly")
    return {
        "web": made("ReplicaSet", "web-5d9c7bbf6c", deployment),
        "bare-replicas": made("ReplicaSet", "lonely"),
        "database": made("StatefulSet", "database"),
        "logs": made("DaemonSet", "logs"),
        "nightly": made("Job", "nightly-29384756", cron_job),
        "once": made("Job", "once"),
        "single": None,
        "sender": None,
    }


def _workload(
    kind: str, name: str, namespace: str, owner: dict[str, Any] | None, labels: dict[str, str]
) -> dict[str, Any]:
    selector = {"app": name}
    template: dict[str, Any] = {
        "metadata": {"labels": selector},
        "spec": {"containers": [{"name": "main", "image": IMAGE}]},
    }
    spec: dict[str, Any] = {"template": template}
    if kind in {"Job", "CronJob"}:
        template["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": selector}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    if kind == "CronJob":
        spec = {"schedule": "0 3 * * *", "jobTemplate": {"spec": spec}}
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    meta["annotations"] = {"note": f"of {kind}"}
    if owner:
        meta["ownerReferences"] = [owner]
    version = "batch/v1" if kind in {"Job", "CronJob"} else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


def _pod(
    server: kube_apiserver.ApiServer,
    namespace: str,
    short: str,
    owner: dict[str, Any] | None,
    number: int,
) -> dict[str, Any]:
    labels = {"app": short, "app.kubernetes.io/component": "cart", "release": "r1"}
    annotations = {"build": "42", "resource.opentelemetry.io/deployment.environment.name": "prod"}
    if short == "web":
        labels["pod-template-hash"] = "5d9c7bbf6c"
    if short == "single":
        labels |= {"app.kubernetes.io/name": "till", "app.kubernetes.io/version": "9.9"}
        annotations["resource.opentelemetry.io/service.name"] = "checkout"
    if short == "database":
        labels["app.kubernetes.io/instance"] = "orders-db"
    name = f"{owner['name']}-x{number}" if owner else short
    pod = kube_objects.pod(name, namespace, owner=owner, labels=labels, annotations=annotations)
    pod["spec"]["initContainers"] = [{"name": "prepare", "image": "busybox:1.36"}]
    pod["spec"]["hostNetwork"] = short == "logs"
    server.apply(pod)
    ip = SENDER_IP if short == "sender" else f"10.9.0.{number}"
    return dict(server.set_status(pod, _status(number, ip)))


def _status(number: int, ip: str) -> dict[str, Any]:
    """The container `main` in its third instance; the second was killed for memory."""
    status = kube_objects.running(
        container_id=container_id(number),
        ip=ip,
        restarts=2,
        last_id=container_id(100 + number),
        image_id=DIGEST,
    )
    done = {"exitCode": 0, "containerID": f"containerd://{container_id(200 + number)}"}
    status["initContainerStatuses"] = [
        {
            "name": "prepare",
            "image": "docker.io/library/busybox:1.36",
            "imageID": "docker.io/library/busybox@sha256:" + "e" * 64,
            "containerID": f"containerd://{container_id(200 + number)}",
            "ready": True,
            "restartCount": 0,
            "state": {"terminated": done},
        }
    ]
    return status


def cases(shop: Shop) -> dict[str, dict[str, str]]:
    """Resources as records bring them, by what is known in them."""
    web, uid = 1, shop.uid("web")
    found = {f"pod UID of {short}": {"k8s.pod.uid": shop.uid(short)} for short in shop.pods}
    found |= {
        "pod UID, container name": {"k8s.pod.uid": uid, "k8s.container.name": "main"},
        "pod UID, name of init container": {"k8s.pod.uid": uid, "k8s.container.name": "prepare"},
        "container id": {"container.id": container_id(web)},
        "previous container id": {"container.id": container_id(100 + web)},
        "init container id": {"container.id": container_id(200 + web)},
        "unknown container id, pod UID": {"container.id": container_id(999), "k8s.pod.uid": uid},
        "pod IP": {"k8s.pod.ip": f"10.9.0.{web}"},
        "IP of a pod in the host's network": {"k8s.pod.ip": "10.9.0.4"},
        "pod and namespace name": {
            "k8s.pod.name": shop.name("web"),
            "k8s.namespace.name": shop.namespace,
        },
        "unknown pod UID": {"k8s.pod.uid": NOWHERE},
        "pod UID, an attribute set before": {"k8s.pod.uid": uid, "k8s.pod.name": "given"},
        "nothing": {},
    }
    return found
