"""Options of `k8s_attributes`: the collector's, with its names and defaults, and a few of ours."""

from __future__ import annotations

import dataclasses
from typing import Literal

from otel_oom.config.types import Duration, Violations
from otel_oom.kubernetes import log_links
from otel_oom.processors.k8s_attributes import rules

MOST_SOURCES = 4

Metadata = Literal[
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.hostname",
    "k8s.pod.ip",
    "k8s.pod.start_time",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.deployment.name",
    "k8s.deployment.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.cronjob.name",
    "k8s.cronjob.uid",
    "k8s.node.name",
    "k8s.node.uid",
    "k8s.cluster.uid",
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "container.image.tag",
    "container.image.tags",
    "container.image.repo_digests",
    "service.namespace",
    "service.name",
    "service.version",
    "service.instance.id",
]
DEFAULT_METADATA: tuple[Metadata, ...] = (
    "container.image.name",
    "container.image.tags",
    "k8s.container.name",
    "k8s.deployment.name",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.pod.name",
    "k8s.pod.start_time",
    "k8s.pod.uid",
)
From = Literal[
    "pod",
    "namespace",
    "node",
    "deployment",
    "replicaset",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
]
API_METADATA = ("k8s.deployment.uid", "k8s.cronjob.uid", "k8s.node.uid", "k8s.cluster.uid")
"""What no pod says of itself: another object has to be asked for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A label or an annotation that becomes an attribute."""

    tag_name: str = ""
    """Name of the attribute; with `key_regex` it may refer to its groups (`$$1`, `$${name}`).
    Default: `k8s.pod.label.KEY`, `k8s.pod.annotation.KEY` and so on."""

    key: str = ""
    """The label or annotation. This or `key_regex`."""

    key_regex: str = ""
    """Of all labels or annotations, those whose whole key this expression matches."""

    from_: From = "pod"
    """Whose label or annotation it is, written `from`. Default `pod`."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.key and self.key_regex:
            text = f"`key` ({self.key}) and `key_regex` ({self.key_regex}) exclude each other"
            yield ("key_regex",), text
        if not self.key and not self.key_regex:
            yield (), "`key` or `key_regex` is required"
        if problem := rules.problem(self.key_regex):
            yield ("key_regex",), problem


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """What becomes attributes."""

    metadata: list[Metadata] = dataclasses.field(default_factory=lambda: list(DEFAULT_METADATA))
    """Attributes to set on the resource. The collector's default, and `k8s.container.name`."""

    labels: list[Field] = dataclasses.field(default_factory=list)
    """Labels to set as attributes. Default: none."""

    annotations: list[Field] = dataclasses.field(default_factory=list)
    """Annotations to set as attributes. Default: none."""

    otel_annotations: bool = False
    """Whether a pod's annotation `resource.opentelemetry.io/NAME` becomes the attribute `NAME`.
    Default false."""

    deployment_name_from_replicaset: bool = False
    """Of older collectors. A Deployment's name is made from its ReplicaSet's in any case, by the
    label `pod-template-hash`; ReplicaSets are only watched for what they alone say. Default
    false."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FieldFilter:
    """Pods by a field."""

    key: str
    """The field's path, as `status.phase`. Required."""

    value: str = ""
    """What it is compared with."""

    op: Literal["equals", "not-equals"] = "equals"
    """How. Default `equals`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabelFilter:
    """Pods by a label."""

    key: str
    """The label. Required."""

    value: str = ""
    """What it is compared with; without meaning for the last two of `op`."""

    op: Literal["equals", "not-equals", "exists", "does-not-exist"] = "equals"
    """How. Default `equals`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which pods are asked for; the API server does the filtering."""

    node: str = ""
    """Only pods of this node. Default: of all, which an agent on each node should not ask for."""

    node_from_env_var: str = ""
    """The environment variable that has the node's name, in the place of `node`."""

    namespace: str = ""
    """Only pods of this namespace. Default: of all."""

    fields: list[FieldFilter] = dataclasses.field(default_factory=list)
    """Only pods whose fields are so. Default: no condition."""

    labels: list[LabelFilter] = dataclasses.field(default_factory=list)
    """Only pods whose labels are so. Default: no condition."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSource:
    """One part of a rule."""

    from_: Literal["resource_attribute", "connection"] = "resource_attribute"
    """Written `from`. `connection` never matches: what the kernel tells comes by none."""

    name: str = ""
    """The resource's attribute, of those that are extracted."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.from_ == "resource_attribute" and not self.name:
            yield ("name",), "`name` is missing: `from: resource_attribute` needs one"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """A rule by which a resource is matched with a pod."""

    sources: list[AssociationSource] = dataclasses.field(default_factory=list)
    """All of them must match; at most 4."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if len(self.sources) > MOST_SOURCES:
            text = f"`sources` has {len(self.sources)} entries; at most {MOST_SOURCES} can be used"
            yield ("sources",), text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedPod:
    """Pods that are passed over."""

    name: str
    """Regular expression that is found in their names. Required."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if problem := rules.problem(self.name):
            yield ("name",), problem


def _default_excludes() -> list[ExcludedPod]:
    return [ExcludedPod(name="jaeger-agent"), ExcludedPod(name="jaeger-collector")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Exclude:
    """Pods that are passed over.

    Beside them, those with the annotation `opentelemetry.io/k8s-processor/ignore: "true"`.
    """

    pods: list[ExcludedPod] = dataclasses.field(default_factory=_default_excludes)
    """By name, beside those with the annotation `opentelemetry.io/k8s-processor/ignore: "true"`.
    Default: the pods of Jaeger."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kubelet:
    """How the node's kubelet is asked, if it is the source."""

    endpoint: str = ""
    """URL of the kubelet, as `https://10.0.0.1:10250`. Default: port 10250 of the node that
    `filter` names. With `http://` no token is sent."""

    poll_interval: Duration = Duration(10.0)
    """Time between two questions; a record that cannot be matched brings the next one forward.
    Default 10s."""

    ca_file: str = ""
    """Certificates that the kubelet's is checked with. Default: the service account's."""

    insecure_skip_verify: bool = False
    """Whether the kubelet's certificate is not checked: many sign their own. Default false."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.endpoint and not self.endpoint.startswith(("https://", "http://")):
            text = f"`endpoint` ({self.endpoint}) must begin with `https://` or `http://`"
            yield ("endpoint",), text
        if self.poll_interval <= 0:
            yield ("poll_interval",), "`poll_interval` must be greater than zero"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `k8s_attributes` processor."""

    auth_type: Literal["none", "serviceAccount", "kubeConfig"] = "serviceAccount"
    """Who the agent is to the API server: the pod's service account, or whom a kubeconfig says
    (which needs the extra `otel-oom[kubernetes]`). `none`: nobody is asked. Outside a cluster
    `serviceAccount` is as `none`. Default `serviceAccount`."""

    context: str = ""
    """With `kubeConfig`: the context. Default: the file's current one."""

    kube_config_path: str = ""
    """With `kubeConfig`: the file. Default: `KUBECONFIG`, else `~/.kube/config`."""

    kube_api_qps: float = 5.0
    """Accepted and without effect: there is one request for each kind, and no more."""

    kube_api_burst: int = 10
    """Accepted and without effect, as `kube_api_qps`."""

    source: Literal["api_server", "kubelet"] = "api_server"
    """Whom to ask: the API server, or the node's kubelet, which knows the node's pods alone and
    spares the API server. Default `api_server`."""

    kubelet: Kubelet = Kubelet()
    """How the kubelet is asked, with `source: kubelet`."""

    passthrough: bool = False
    """Whether nobody is asked, and only what the cgroup's path tells is set. Default false."""

    extract: Extract = Extract()
    """What becomes attributes."""

    filter: Filter = Filter()
    """Which pods are asked for."""

    pod_association: list[Association] = dataclasses.field(default_factory=list)
    """Rules by which a resource is matched with a pod; the first that finds one counts. After them
    come, in any case: container id, pod UID, the pod's address. Default: none."""

    exclude: Exclude = Exclude()
    """Pods that are passed over."""

    wait_for_metadata: bool = False
    """Whether the start waits until all pods are known, and fails if they are not in time.
    Default false: what arrives earlier waits `late_timeout` at most."""

    wait_for_metadata_timeout: Duration = Duration(10.0)
    """How long the start waits at most. Default 10s."""

    watch_sync_period: Duration = Duration(300.0)
    """Accepted and without effect: nothing is gone through again without a reason."""

    pod_delete_grace_period: Duration = Duration(120.0)
    """How long a pod that is gone is still known: its last records come late. Default 120s; of
    more than 4096 that are gone the oldest are forgotten earlier, and counted."""

    late_timeout: Duration = Duration(2.0)
    """How long a log record or a span waits for its pod or container to become known; then it goes
    as it is, and says so. Others do not wait for it. Default 2s; 0 waits for nothing."""

    log_links_folder: str = log_links.FOLDER
    """Where the node's kubelet makes a link to each container's log, named after the container and
    its id: it tells of a container that has died before its pod's status does. Only the links are
    read. Empty: not looked at. Default `/var/log/containers`."""

    late_items: int = 8192
    """Most log records and spans that wait in each pipeline; what comes then goes as it is, and
    says so. Default 8192."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        for key in ("wait_for_metadata_timeout", "watch_sync_period", "late_timeout"):
            if getattr(self, key) < 0:
                yield (key,), f"`{key}` must not be negative"
        for key in ("pod_delete_grace_period", "kube_api_qps", "kube_api_burst", "late_items"):
            if getattr(self, key) < 0:
                yield (key,), f"`{key}` must not be negative"
        yield from self._associations()
        if self.source == "kubelet":
            yield from self._beyond_kubelet()

    def _associations(self) -> Violations:
        seen: set[tuple[str, ...]] = set()
        for index, rule in enumerate(self.pod_association):
            key = tuple(sorted(f"{source.from_}/{source.name}" for source in rule.sources))
            if key in seen:
                yield ("pod_association", index), f"the same rule ({', '.join(key)}) stands above"
            seen.add(key)

    def _beyond_kubelet(self) -> Violations:
        """What a kubelet does not know."""
        remedy = "a kubelet knows its pods alone; leave it out, or use `source: api_server`"
        if self.auth_type == "kubeConfig":
            yield (
                ("auth_type",),
                "`kubeConfig` is of the API server; use `serviceAccount`",
            )
        for index, key in enumerate(self.extract.metadata):
            if key in API_METADATA:
                yield ("extract", "metadata", index), f"`{key}`: {remedy}"
        for where in ("labels", "annotations"):
            for index, field in enumerate(getattr(self.extract, where)):
                if field.from_ != "pod":
                    yield ("extract", where, index, "from"), f"`from: {field.from_}`: {remedy}"
