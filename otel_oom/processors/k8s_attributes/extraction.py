"""From a pod and its container to the attributes that the options ask for.

They are made once for each state of a pod and each of its containers, and kept in the wire form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from otel_oom import semconv
from otel_oom.kubernetes.objects import Metadata, Pod
from otel_oom.kubernetes.source import Kind
from otel_oom.pipeline import otlp
from otel_oom.pipeline.otlp import wire
from otel_oom.processors.k8s_attributes import images, owners, rules
from otel_oom.processors.k8s_attributes.config import Extract
from otel_oom.processors.k8s_attributes.index import Index
from otel_oom.processors.k8s_attributes.pods import Encoded, Entry, spec_of, status_of

_ATTRIBUTE = 1
"""The field of a `Resource`."""

_NAME_LABEL = "app.kubernetes.io/name"
_INSTANCE_LABEL = "app.kubernetes.io/instance"
_VERSION_LABEL = "app.kubernetes.io/version"
_KINDS = {
    "deployment": Kind.DEPLOYMENT,
    "replicaset": Kind.REPLICA_SET,
    "statefulset": Kind.STATEFUL_SET,
    "daemonset": Kind.DAEMON_SET,
    "job": Kind.JOB,
    "cronjob": Kind.CRON_JOB,
}
_SERVICE_OWNERS = ("deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job")
"""Whose name a service has, the first that there is (semantic-conventions, k8s-attributes.md)."""

Values = dict[str, otlp.Value]


class Extraction:
    """The options `extract`, ready for use."""

    def __init__(self, config: Extract, index: Index) -> None:
        self._index = index
        self._wanted = frozenset(config.metadata)
        self._labels = _rules(config.labels, "label")
        self._annotations = _rules(config.annotations, "annotation")
        if config.otel_annotations:
            self._annotations.setdefault("pod", []).append(rules.otel_annotations)

    def encoded(self, entry: Entry, container: str = "") -> Encoded:
        """All attributes of a pod and, if it is named, its container, each in its wire form."""
        if entry.made_epoch != self._index.epoch:
            entry.made, entry.made_epoch = {}, self._index.epoch
        made = entry.made.get(container)
        if made is None:
            made = entry.made[container] = encode(self.values(entry, container))
        return made

    def values(self, entry: Entry, container: str = "") -> Values:
        """All attributes. What stands first counts: what the pod itself says, as its container."""
        pod = entry.pod
        found: Values = {}
        owned = owners.of(pod, self._index)
        for part in (
            self._of_pod(pod, owned),
            self._of_container(pod, container) if container else {},
            *self._of_others(pod, owned),
        ):
            for key, value in part.items():
                found.setdefault(key, value)
        return found

    def container_id(self, entry: Entry, name: str) -> str:
        """The instance that runs now, of whom a resource only names the container."""
        status = status_of(entry.pod, name) if semconv.CONTAINER_ID in self._wanted else None
        return status.container_id.partition("://")[2] if status else ""

    def _of_pod(self, pod: Pod, owned: Mapping[str, owners.Owner]) -> Values:
        """What is written later wins: an annotation over a label over what is worked out."""
        metadata = pod.metadata
        labels = metadata.labels or {}
        found = self._only(dict(_pod_values(pod, owned)) | self._cluster())
        found |= _applied(self._labels.get("pod"), labels)
        found |= self._only(
            {
                semconv.SERVICE_NAME: labels.get(_INSTANCE_LABEL) or labels.get(_NAME_LABEL, ""),
                semconv.SERVICE_VERSION: labels.get(_VERSION_LABEL, ""),
            }
        )
        return found | _applied(self._annotations.get("pod"), metadata.annotations or {})

    def _cluster(self) -> Values:
        return {semconv.K8S_CLUSTER_UID: self._index.cluster_uid}

    def _of_container(self, pod: Pod, name: str) -> Values:
        spec, status = spec_of(pod, name), status_of(pod, name)
        image = images.parse(spec.image if spec else "")
        digest = images.repo_digest(status.image_id) if status else ""
        tag = image.name and (image.tag or "latest")
        return self._only(
            {
                semconv.K8S_CONTAINER_NAME: name,
                semconv.CONTAINER_IMAGE_NAME: image.name,
                semconv.CONTAINER_IMAGE_TAG: tag,
                semconv.CONTAINER_IMAGE_TAGS: [tag] if tag else [],
                semconv.CONTAINER_IMAGE_REPO_DIGESTS: [digest] if digest else [],
                semconv.SERVICE_INSTANCE_ID: f"{pod.metadata.namespace}.{pod.metadata.name}.{name}",
                semconv.SERVICE_VERSION: image.version,
            }
        )

    def _of_others(self, pod: Pod, owned: Mapping[str, owners.Owner]) -> Iterator[Values]:
        """Of its namespace, its node and its owners."""
        if namespace := self._index.other(Kind.NAMESPACE, pod.metadata.namespace):
            yield self._ruled("namespace", namespace.metadata)
        if node := self._index.other(Kind.NODE, pod.spec.node_name):
            yield self._ruled("node", node.metadata)
            yield self._only({semconv.K8S_NODE_UID: node.metadata.uid})
        for name, owner in owned.items():
            if known := self._index.other(_KINDS[name], owner.uid):
                yield self._ruled(name, known.metadata)

    def _ruled(self, kind: str, metadata: Metadata) -> Values:
        labels = _applied(self._labels.get(kind), metadata.labels or {})
        return labels | _applied(self._annotations.get(kind), metadata.annotations or {})

    def _only(self, values: Values) -> Values:
        """Those that are asked for and that there are."""
        return {key: value for key, value in values.items() if value and key in self._wanted}


def encode(values: Values) -> Encoded:
    """Attributes as fields of a `Resource`."""
    return tuple(
        (key, wire.message(_ATTRIBUTE, otlp.key_value(key, value).SerializeToString()))
        for key, value in values.items()
    )


def _pod_values(pod: Pod, owned: Mapping[str, owners.Owner]) -> Iterator[tuple[str, otlp.Value]]:
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    yield semconv.K8S_NAMESPACE_NAME, metadata.namespace
    yield semconv.K8S_POD_NAME, metadata.name
    yield semconv.K8S_POD_UID, metadata.uid
    yield semconv.K8S_POD_HOSTNAME, spec.hostname
    yield semconv.K8S_POD_IP, status.pod_ip
    yield semconv.K8S_POD_START_TIME, metadata.creation_timestamp or status.start_time
    yield semconv.K8S_NODE_NAME, spec.node_name
    for kind, owner in owned.items():
        yield f"k8s.{kind}.name", owner.name
        yield f"k8s.{kind}.uid", owner.uid
    named = next((owned[kind].name for kind in _SERVICE_OWNERS if kind in owned), metadata.name)
    yield semconv.SERVICE_NAME, named
    yield semconv.SERVICE_NAMESPACE, metadata.namespace


def _rules(fields: Iterable[rules.Field], what: str) -> dict[str, list[rules.Rule]]:
    found: dict[str, list[rules.Rule]] = {}
    for field in fields:
        found.setdefault(field.from_, []).append(rules.rule(field, what))
    return found


def _applied(found: Iterable[rules.Rule] | None, source: Mapping[str, str]) -> Values:
    return {key: value for rule in found or () for key, value in rule(source)}
