"""Which pod and container a resource is of.

The kernel's path comes before all else: it names the container and the pod for certain, from
their first moment to their last. What finds nothing falls through to the next, less sure way.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_oom import semconv
from otel_oom.kubernetes import paths
from otel_oom.processors.k8s_attributes import index as indexes
from otel_oom.processors.k8s_attributes.config import Association, Exclude
from otel_oom.processors.k8s_attributes.extraction import Extraction
from otel_oom.processors.k8s_attributes.index import Index, Key
from otel_oom.processors.k8s_attributes.pods import IGNORE, Entry
from otel_oom.processors.k8s_attributes.rules import compiled
from otel_oom.semconv import Match, Miss

_HOST_NAME, _IP = "host.name", "ip"
_ADDRESSES = (semconv.K8S_POD_IP, _IP, _HOST_NAME)
_MATCHES: dict[tuple[str, ...], Match] = {
    (semconv.CONTAINER_ID,): Match.CONTAINER_ID,
    (semconv.K8S_POD_UID,): Match.POD_UID,
    **{(name,): Match.POD_IP for name in _ADDRESSES},
}


class Identity(NamedTuple):
    """What a resource says of itself, read once."""

    raw: bytes
    values: Mapping[str, str]
    """Attributes that are text and not empty."""

    present: frozenset[str]
    """Keys that have a value, of whatever type."""

    empty: frozenset[str]
    """Keys that have an empty text, which counts as none."""

    workload: paths.Workload
    container_id: str
    pod_uid: str
    keys: tuple[tuple[Match, Key], ...]
    """Ways to find the pod after the container id, in their order."""


class Found(NamedTuple):
    """What a resource was matched with. `container` is a name in the pod."""

    match: Match
    miss: Miss | None
    entry: Entry | None = None
    container: str = ""


class Associator:
    """The options `pod_association` and `exclude`, ready for use."""

    def __init__(self, rules: Sequence[Association], exclude: Exclude) -> None:
        self._rules = [
            tuple(source.name for source in rule.sources)
            for rule in rules
            if rule.sources and all(source.from_ != "connection" for source in rule.sources)
        ]
        self._excluded: list[re.Pattern[str]] = [compiled(each.name) for each in exclude.pods]

    def identify(self, raw: bytes) -> Identity:
        """Read a `Resource` in its wire form."""
        attributes = Resource.FromString(raw).attributes
        texts = {
            each.key: each.value.string_value
            for each in attributes
            if each.value.HasField("string_value")
        }
        values = {key: text for key, text in texts.items() if text}
        empty = texts.keys() - values.keys()
        workload = paths.parse(values.get(semconv.PROCESS_LINUX_CGROUP, ""))
        container_id = values.get(semconv.CONTAINER_ID) or workload.container_id
        pod_uid = values.get(semconv.K8S_POD_UID) or workload.pod_uid
        told = {semconv.CONTAINER_ID: container_id, semconv.K8S_POD_UID: pod_uid}
        return Identity(
            raw,
            values,
            frozenset(each.key for each in attributes) - empty,
            frozenset(empty),
            workload,
            container_id,
            pod_uid,
            tuple(self._ways({**values, **{key: text for key, text in told.items() if text}})),
        )

    def keys(self, entry: Entry, extraction: Extraction) -> Iterator[Key]:
        """By which keys the user's rules find a pod."""
        for rule in self._rules:
            yield from _products(rule, [_of_pod(entry, name, extraction) for name in rule])

    def find(self, identity: Identity, index: Index) -> tuple[Match, Entry] | None:
        """The pod of a resource; this is asked for every batch."""
        for match, key in identity.keys:
            by_id = key is _CONTAINER
            entry = index.by_container(identity.container_id) if by_id else index.by_key(key)
            if entry:
                return match, entry
        return None

    def is_excluded(self, entry: Entry) -> bool:
        """Whether the user wants the pod to be passed over."""
        metadata = entry.pod.metadata
        ignore = (metadata.annotations or {}).get(IGNORE, "")
        return ignore.strip().lower() == "true" or any(
            expression.search(metadata.name) for expression in self._excluded
        )

    def _ways(self, values: Mapping[str, str]) -> Iterator[tuple[Match, Key]]:
        for rule in self._rules:
            told = [_told(values, name) for name in rule]
            if all(told):
                yield _MATCHES.get(rule, Match.RESOURCE_ATTRIBUTES), (rule, *told)
        if values.get(semconv.CONTAINER_ID):
            yield Match.CONTAINER_ID, _CONTAINER
        if uid := values.get(semconv.K8S_POD_UID):
            yield Match.POD_UID, indexes.uid_key(uid)
        for name in _ADDRESSES:
            if address := _told(values, name):
                yield Match.POD_IP, indexes.address_key(address)
        namespace, pod = values.get(semconv.K8S_NAMESPACE_NAME), values.get(semconv.K8S_POD_NAME)
        if namespace and pod:
            yield Match.RESOURCE_ATTRIBUTES, indexes.name_key(namespace, pod)


_CONTAINER: Key = "container"
"""Stands for the container id among the ways."""


def container_of(identity: Identity, entry: Entry) -> str:
    """The container's name in its pod; empty if it is not known for certain."""
    if identity.container_id:
        instance = entry.instances.get(identity.container_id)
        return instance.container if instance else ""
    names = entry.container_names()
    named = identity.values.get(semconv.K8S_CONTAINER_NAME, "")
    if named:
        return named if named in names else ""
    return names[0] if len(names) == 1 and not identity.workload.pod_uid else ""


def _told(values: Mapping[str, str], name: str) -> str:
    """A resource's attribute; a host's name counts if it is an address."""
    value = values.get(name, "")
    return "" if name == _HOST_NAME and not _is_address(value) else value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _of_pod(entry: Entry, name: str, extraction: Extraction) -> Iterable[str]:
    """What a resource's attribute must be to be of this pod."""
    pod = entry.pod
    match name:
        case semconv.CONTAINER_ID:
            return tuple(entry.instances)
        case semconv.K8S_POD_UID:
            return (pod.metadata.uid,)
        case semconv.K8S_POD_NAME:
            return (pod.metadata.name,)
        case semconv.K8S_NAMESPACE_NAME:
            return (pod.metadata.namespace,)
        case semconv.K8S_POD_IP | "ip" | "host.name":
            return entry.addresses
    value = extraction.values(entry).get(name)
    return (value,) if isinstance(value, str) else ()


def _products(rule: tuple[str, ...], choices: list[Iterable[str]]) -> Iterator[Key]:
    return ((rule, *told) for told in itertools.product(*choices) if all(told))
