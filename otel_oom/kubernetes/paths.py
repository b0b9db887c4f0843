"""What a cgroup's path tells of a container and its pod, without asking anyone.

The kubelet names a pod's cgroup after its UID and the runtime names a container's after its id;
each has a spelling for the driver `cgroupfs` and one for `systemd`. Components are looked at one
by one, because the rest of the path is anybody's: a cluster within a container, a container
within a pod, a path seen from another cgroup namespace (`/../..`).
"""

from __future__ import annotations

import dataclasses
import re

_RUNTIMES = {
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
}
"""Runtimes by the prefix of their scopes; those of a pod are spelled as in `containerID`."""

_PARENTS = {"docker": "docker", "k8s.io": "containerd"}
"""Runtimes by the cgroup that a bare id stands in."""

_POD_IDS = "libpod_parent"
"""Podman's cgroup with bare ids of its own pods, which are no containers."""

_QOS_CLASSES = {"": "Guaranteed", "burstable": "Burstable", "besteffort": "BestEffort"}
_QOS_DIRECTORIES = {"burstable", "besteffort"}

_ROOT = re.compile(r"(?:.*-)?kubepods(?:-(?P<qos>burstable|besteffort))?\.slice|kubepods")
_POD_SLICE = re.compile(
    r"(?:.*-)?kubepods(?:-(?P<qos>burstable|besteffort))?-pod(?P<uid>[0-9A-Za-z_.]+)\.slice"
)
_POD_DIRECTORY = re.compile(r"pod(?P<uid>[0-9A-Za-z][0-9A-Za-z_.-]*)")
_UID = re.compile(r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}")
_SCOPE = re.compile(rf"(?P<prefix>{'|'.join(_RUNTIMES)})-(?P<id>[0-9a-f]{{64}})(?:\.scope)?")
_BARE = re.compile(r"[0-9a-f]{64}")
_ECS = re.compile(r"[0-9a-f]{32}-[0-9]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """Who a cgroup belongs to; what its path does not tell is empty.

    `pod_uid` of a static pod is the hash of its manifest (the API's copy has it as annotation
    `kubernetes.io/config.hash`). `container_id` may be that of the pod's sandbox, which no API
    object has. `runtime` is `containerd`, `cri-o`, `docker` or `podman`; `qos_class` is spelled
    as in a pod's status.
    """

    pod_uid: str = ""
    container_id: str = ""
    runtime: str = ""
    qos_class: str = ""


def parse(path: str) -> Workload:
    """Read a cgroup's path: the innermost pod and the outermost container within it.

    What runs inside a pod's container, containers included, belongs to the one that the API
    knows. Without a pod the innermost container counts.
    """
    found, parent, ancestors = Workload(), "", set[str]()
    for component in _components(path):
        found = (
            _kubepods(component, parent)
            or _pod(component, parent, found)
            or _container(component, parent, ancestors, found)
            or found
        )
        ancestors.add(parent := component)
    return found


def _components(path: str) -> list[str]:
    """The path's parts; `slice:prefix:id` is how systemd's spelling looks to cgroupfs' driver."""
    components = []
    for component in path.split("/"):
        match component.split(":"):
            case [parent, prefix, container_id] if prefix in _RUNTIMES:
                components += [parent, f"{prefix}-{container_id}"]
            case _:
                components.append(component)
    return components


def _kubepods(component: str, parent: str) -> Workload | None:
    """The root of all pods, or of those of a QoS class; what stands above it is another's."""
    if root := _ROOT.fullmatch(component):
        return Workload(qos_class=_QOS_CLASSES[root["qos"]] if root["qos"] else "")
    if component in _QOS_DIRECTORIES and parent in {"kubepods", ".."}:
        return Workload(qos_class=_QOS_CLASSES[component])
    return None


def _pod(component: str, parent: str, found: Workload) -> Workload | None:
    if pod := _POD_SLICE.fullmatch(component):
        return Workload(pod["uid"].replace("_", "-"), qos_class=_QOS_CLASSES[pod["qos"] or ""])
    pod = _POD_DIRECTORY.fullmatch(component)
    in_root = parent == "kubepods" or (parent in _QOS_DIRECTORIES and bool(found.qos_class))
    if not pod or not (in_root or _UID.fullmatch(pod["uid"])):
        return None
    return Workload(pod["uid"], qos_class=(found.qos_class or "Guaranteed") if in_root else "")


def _container(
    component: str, parent: str, ancestors: set[str], found: Workload
) -> Workload | None:
    if found.pod_uid and found.container_id:
        return None
    if scope := _SCOPE.fullmatch(component):
        named = scope["id"], _RUNTIMES[scope["prefix"]]
    elif _BARE.fullmatch(component) and parent != _POD_IDS:
        named = component, _PARENTS.get(parent, "")
    elif _ECS.fullmatch(component) and "ecs" in ancestors:
        named = component, ""
    else:
        return None
    return dataclasses.replace(found, container_id=named[0], runtime=named[1])
