"""Objects as an API server writes them: whole, with what the agent never reads."""

from __future__ import annotations

import json
import random
from typing import Any

Json = dict[str, Any]


def _hex(chance: random.Random, length: int) -> str:
    return "".join(chance.choice("0123456789abcdef") for _ in range(length))


def _container_id(number: int, instance: int) -> str:
    return _hex(random.Random(f"{number}/{instance}"), 64)


def pod(number: int = 0, *, version: int = 1, restarts: int = 0) -> Json:
    """A pod of a Deployment, one of 40; of the size that pods of a real cluster have (7 kB)."""
    chance = random.Random(number)
    app = f"app-{number % 40}"
    template = f"{number % 40 * 7919:010x}"
    image = f"registry.example.com/team-{number % 7}/{app}"
    ids = [_container_id(number, instance) for instance in (restarts - 1, restarts)]
    ended = (
        {"exitCode": 137, "reason": "OOMKilled", "containerID": f"containerd://{ids[0]}"}
        if restarts
        else None
    )
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{app}-{template}-{_hex(chance, 5)}",
            "generateName": f"{app}-{template}-",
            "namespace": f"ns-{number % 12}",
            "uid": f"{number:08x}-{_hex(chance, 4)}-{_hex(chance, 4)}-{_hex(chance, 4)}-{_hex(chance, 12)}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-21T09:00:00Z",
            "labels": {
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/instance": f"{app}-prod",
                "pod-template-hash": template,
                "team": f"team-{number % 7}",
            },
            "annotations": {
                "checksum/config": _hex(chance, 64),
                "kubectl.kubernetes.io/last-applied-configuration": "{}" * 200,
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{app}-{template}",
                    "uid": f"{number % 40:08x}-0000-0000-0000-000000000000",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [
                {"manager": "kubelet", "operation": "Update", "fieldsV1": {f"f:field{n}": {} for n in range(100)}}
            ],
        },
        "spec": {
            "nodeName": f"node-{number % 100}",
            "serviceAccountName": "default",
            "volumes": [{"name": "token", "projected": {"sources": [{"configMap": {"name": "x" * 30}}] * 20}}],
            "containers": [
                {
                    "name": app,
                    "image": f"{image}:v1",
                    "env": [{"name": f"E{n}", "value": "v" * 30} for n in range(20)],
                    "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "512Mi"}},
                    "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets"}],
                }
            ],
        },
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "startTime": "2026-11-21T09:00:00Z",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T09:00:00Z"}] * 5,
            "containerStatuses": [
                {
                    "name": app,
                    "containerID": f"containerd://{ids[1]}",
                    "image": f"{image}:v1",
                    "imageID": f"{image}@sha256:{number % 40:064x}",
                    "restartCount": restarts,
                    "ready": True,
                    "state": {"running": {"startedAt": "2026-11-21T09:00:00Z"}},
                    "lastState": {"terminated": ended} if ended else {},
                }
            ],
        },
    }  # fmt: skip


def partial(kind: str, name: str, *, version: int = 1, namespace: str = "") -> Json:
    """A PartialObjectMetadata."""
    metadata = {"name": name, "uid": f"uid-{kind}-{name}", "resourceVersion": str(version)}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}


def listed(items: list[Json] | None, *, version: int = 1, more: str = "") -> bytes:
    """A page of a list."""
    metadata = {"resourceVersion": str(version)} | ({"continue": more} if more else {})
    return json.dumps({"kind": "List", "metadata": metadata, "items": items}).encode()


def event(change: str, found: Json) -> bytes:
    """An event of a watch, on its line."""
    return json.dumps({"type": change, "object": found}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    """A bookmark of a watch of pods, with the nulls that Go writes."""
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    found = {"kind": "Pod", "metadata": metadata, "spec": {"containers": None}, "status": {}}
    return event("BOOKMARK", found)


def status(code: int, reason: str, message: str = "") -> Json:
    """A meta/v1 Status."""
    return {"kind": "Status", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
            "message": message}  # fmt: skip
