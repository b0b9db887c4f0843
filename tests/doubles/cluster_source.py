"""A source whose objects a test sets, built from JSON as the API server gives it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from otel_oom.kubernetes.objects import Partial, Pod
from otel_oom.kubernetes.source import Kind, Object, Sink

CREATED = "2026-11-21T10:00:00Z"


def pod(
    name: str = "web-7d4b9c-x2x4z",
    *,
    uid: str = "11111111-2222-3333-4444-555555555555",
    namespace: str = "shop",
    ip: str = "10.0.0.7",
    containers: dict[str, str] | None = None,
    **more: Any,
) -> Pod:
    """A running pod. `containers`: ids by name (empty: not made yet); `more` is laid over it."""
    containers = {"app": "a" * 64} if containers is None else containers
    value: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "creationTimestamp": CREATED,
            "resourceVersion": "1",
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": each, "image": f"registry.example:5000/{each}:1.2"} for each in containers
            ],
        },
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "startTime": CREATED,
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "containerStatuses": [status(each, id_) for each, id_ in containers.items()],
        },
    }
    return decoded(_over(value, more), Pod)


def status(name: str, container_id: str, *, restarts: int = 0, **more: Any) -> dict[str, Any]:
    """A container's status."""
    found = {"name": name, "restartCount": restarts, "ready": True, **more}
    return found | ({"containerID": f"containerd://{container_id}"} if container_id else {})


def ended(container_id: str, reason: str = "OOMKilled") -> dict[str, Any]:
    """The state of a container that is over."""
    return {
        "terminated": {
            "containerID": f"containerd://{container_id}",
            "exitCode": 137,
            "reason": reason,
        }
    }


def owner(kind: str, name: str, uid: str, *, controller: bool = True) -> dict[str, Any]:
    """A reference to an owner."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": controller,
    }


def partial(name: str, uid: str, **metadata: Any) -> Partial:
    """An object of any other kind, its metadata alone."""
    return decoded({"metadata": {"name": name, "uid": uid, **metadata}}, Partial)


def decoded(value: dict[str, Any], kind: type) -> Any:
    """JSON as the agent reads it."""
    return msgspec.json.decode(json.dumps(value), type=kind)


def _over(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _over(base[key], value)
        else:
            base[key] = value
    return base


class Objects:
    """A `Source` that tells what it is given, at once, to whoever runs it."""

    def __init__(self, *pods: Object, synced: bool = True) -> None:
        self.synced = synced
        self.pokes = 0
        self.runs = 0
        self.running = 0
        self.failure: Exception | None = None
        self._found: dict[Kind, list[Object]] = {Kind.POD: list(pods)}
        self._sink: Sink | None = None

    async def run(self, sink: Sink) -> None:
        self._sink = sink
        self.runs += 1
        self.running += 1
        try:
            for kind, objects in self._found.items():
                sink.replace(kind, objects)
            if self.failure:
                raise self.failure
            await asyncio.Event().wait()
        finally:
            self.running -= 1

    def put(self, kind: Kind, found: Object) -> None:
        """Tell of a new or changed object; before the start it is in the first list."""
        if self._sink:
            self._sink.put(kind, found)
        else:
            self._found.setdefault(kind, []).append(found)

    def remove(self, kind: Kind, found: Object) -> None:
        """Tell that an object is gone."""
        assert self._sink
        self._sink.remove(kind, found)

    def is_synced(self) -> bool:
        return self.synced

    def describe(self) -> str:
        return "objects of a test"

    def poke(self) -> None:
        self.pokes += 1
