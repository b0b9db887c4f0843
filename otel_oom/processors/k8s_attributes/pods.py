"""A pod as the index keeps it: the object, and every id that its containers have had."""

from __future__ import annotations

import itertools
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple

from otel_oom.kubernetes.objects import ContainerSpec, ContainerStatus, Pod

CONFIG_HASH = "kubernetes.io/config.hash"
"""Of a static pod: the annotation with the UID that the node knows it by."""

IGNORE = "opentelemetry.io/k8s-processor/ignore"
"""Annotation by which a pod asks to be passed over."""

_FINISHED = {"Succeeded", "Failed"}
_MOST_INSTANCES = 64
_SCHEME = "://"


Encoded = tuple[tuple[str, bytes], ...]
"""Attributes by key, each as the field of a resource."""


class Instance(NamedTuple):
    """One run of a container; `restart_count` is that of this run."""

    container: str
    restart_count: int


class Entry:
    """One state of a pod. A new state is a new entry, so what is made of one can be kept with it.

    `made` is for that: attributes by container name, of the epoch in which they were made.
    """

    __slots__ = ("gone_s", "instances", "keys", "made", "made_epoch", "pod")

    def __init__(
        self,
        pod: Pod,
        before: Entry | None = None,
        learned: Mapping[str, Instance] = types.MappingProxyType({}),
    ) -> None:
        """`before`: the entry that this one takes the place of, whose instances it remembers.

        `learned` are instances that no status has named yet.
        """
        self.pod = pod
        self.gone_s: float | None = None
        known = {**(before.instances if before else {}), **learned}
        self.instances: dict[str, Instance] = _instances(pod, known)
        self.keys: tuple[Hashable, ...] = ()
        self.made: dict[str, Encoded] = {}
        self.made_epoch = -1

    @property
    def uid(self) -> str:
        """The API's."""
        return self.pod.metadata.uid

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own; one that shares its node's has none."""
        status = self.pod.status
        if self.pod.spec.host_network:
            return ()
        found = (status.pod_ip, *(address.ip for address in status.pod_ips))
        return tuple(dict.fromkeys(filter(None, found)))

    @property
    def rank(self) -> tuple[bool, bool, str]:
        """Of several pods that a key names, the one of the highest rank is meant.

        What lives before what is gone or has ended, then the younger: addresses and names are
        used again.
        """
        metadata, status = self.pod.metadata, self.pod.status
        started = status.start_time or metadata.creation_timestamp or ""
        return self.gone_s is None, status.phase not in _FINISHED, started

    def container_names(self) -> tuple[str, ...]:
        """Of all containers that are specified."""
        return tuple(spec.name for spec in specs(self.pod))


def specs(pod: Pod) -> Iterator[ContainerSpec]:
    """Containers of all kinds as they were asked for."""
    spec = pod.spec
    return itertools.chain(spec.containers, spec.init_containers, spec.ephemeral_containers)


def statuses(pod: Pod) -> Iterator[ContainerStatus]:
    """Containers of all kinds as they are."""
    status = pod.status
    return itertools.chain(
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    )


def spec_of(pod: Pod, name: str) -> ContainerSpec | None:
    """The container of this name as it was asked for."""
    return next((spec for spec in specs(pod) if spec.name == name), None)


def status_of(pod: Pod, name: str) -> ContainerStatus | None:
    """The container of this name as it is."""
    return next((status for status in statuses(pod) if status.name == name), None)


def bare_id(container_id: str) -> str:
    """Without the runtime that stands before it in a status."""
    return container_id.partition(_SCHEME)[2] or container_id


def _instances(pod: Pod, before: Mapping[str, Instance]) -> dict[str, Instance]:
    """Those of before, and those that the statuses name; the oldest make room."""
    found = dict(before)
    for container_id, instance in _named(pod):
        found.pop(container_id, None)
        found[container_id] = instance
    excess = len(found) - _MOST_INSTANCES - sum(1 for _ in statuses(pod)) * 3
    for container_id in list(itertools.islice(found, max(excess, 0))):
        del found[container_id]
    return found


def _named(pod: Pod) -> Iterator[tuple[str, Instance]]:
    for status in statuses(pod):
        current = Instance(status.name, status.restart_count)
        if status.last_state and status.last_state.terminated:
            previous = Instance(status.name, max(status.restart_count - 1, 0))
            yield from _with_id(status.last_state.terminated.container_id, previous)
        if status.state and status.state.terminated:
            yield from _with_id(status.state.terminated.container_id, current)
        yield from _with_id(status.container_id, current)


def _with_id(container_id: str, instance: Instance) -> Iterator[tuple[str, Instance]]:
    if container_id:
        yield bare_id(container_id), instance
