"""The parts of Kubernetes' objects that this agent uses; the rest of the JSON is skipped unread.

Names and shapes are those of the API reference (core/v1, meta/v1). What an object does
not have is the field's default.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Object(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Immutable, and without cycles, so that the garbage collector need not look at it."""


class OwnerReference(_Object, frozen=True):
    """Who made the object; of several at most one is the `controller`."""

    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(_Object, frozen=True):
    """`ObjectMeta`; times are RFC 3339 text."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    resource_version: str = ""


class Resources(_Object, frozen=True):
    """Requests and limits by resource, as quantities (`256Mi`)."""

    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class ContainerSpec(_Object, frozen=True):
    """A container as it was asked for: main, init or ephemeral."""

    name: str = ""
    image: str = ""
    resources: Resources | None = None


class Terminated(_Object, frozen=True):
    """How an instance of a container ended."""

    exit_code: int = 0
    reason: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    started_at: str | None = None
    finished_at: str | None = None


class State(_Object, frozen=True):
    """Of a container's instance; only its end is of use here."""

    terminated: Terminated | None = None


class ContainerStatus(_Object, frozen=True):
    """A container as it is: `container_id` is `containerd://<id>`, empty before it is made."""

    name: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    restart_count: int = 0
    state: State | None = None
    last_state: State | None = None


class PodIp(_Object, frozen=True):
    """One address of a pod."""

    ip: str = ""


class PodSpec(_Object, frozen=True):
    """What was asked for."""

    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    priority_class_name: str = ""
    containers: tuple[ContainerSpec, ...] = ()
    init_containers: tuple[ContainerSpec, ...] = ()
    ephemeral_containers: tuple[ContainerSpec, ...] = ()


class PodStatus(_Object, frozen=True):
    """What is."""

    phase: str = ""
    qos_class: str = ""
    start_time: str | None = None
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIp, ...] = msgspec.field(default=(), name="podIPs")
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(_Object, frozen=True):
    """core/v1 Pod."""

    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Partial(_Object, frozen=True):
    """meta/v1 PartialObjectMetadata: all that is used of owners, namespaces and nodes."""

    metadata: Metadata = Metadata()
