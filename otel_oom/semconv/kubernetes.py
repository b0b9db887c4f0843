"""Names of containers and of Kubernetes: on the resource, or on the record of a kill."""

from __future__ import annotations

import enum

from otel_oom.semconv.model import ATTRIBUTES, Stability, conventional, own, size

DEV, STABLE = Stability.DEVELOPMENT, Stability.STABLE


class Match(enum.StrEnum):
    """How a resource was matched, the surest way first."""

    CONTAINER_ID = "container_id"
    POD_UID = "pod_uid"
    POD_IP = "pod_ip"
    RESOURCE_ATTRIBUTES = "resource_attributes"
    CGROUP = "cgroup"
    NONE = "none"


class Miss(enum.StrEnum):
    """Why a resource was not matched, or not as surely as it could be."""

    NOT_IN_A_POD = "not_in_a_pod"
    NO_IDENTITY = "no_identity"
    NO_SOURCE = "no_source"
    NOT_SYNCED = "not_synced"
    POD_UNKNOWN = "pod_unknown"
    CONTAINER_UNKNOWN = "container_unknown"
    EXCLUDED = "excluded"
    HOLD_FULL = "hold_full"


class LimitLevel(enum.StrEnum):
    """Whose limit the kernel enforced."""

    CONTAINER = "container"
    POD = "pod"
    QOS_CLASS = "qos_class"
    KUBEPODS = "kubepods"
    OTHER = "other"


class VersusSpec(enum.StrEnum):
    """The kernel's limit beside the specification's."""

    EQUAL = "equal"
    ABOVE = "above"
    BELOW = "below"
    UNSPECIFIED = "unspecified"


_before = len(ATTRIBUTES)

K8S_MATCH = own(
    "k8s.match",
    "string",
    "How the resource was matched: `container_id`, `pod_uid`, `pod_ip`, `resource_attributes`, "
    "`cgroup` (what the path alone tells) or `none`.",
)
K8S_MISS = own(
    "k8s.miss",
    "string",
    "Why it was not matched, or not to a container: `not_in_a_pod`, `no_identity` (nothing to look "
    "up), `no_source` (nobody is asked), `not_synced` (the list of pods is not there yet), "
    "`pod_unknown`, `container_unknown`, `excluded` or `hold_full` (no room to wait for it).",
)

CONTAINER_ID = conventional("container.id", "string", "Id of the container's instance.", STABLE)
CONTAINER_RUNTIME_NAME = conventional(
    "container.runtime.name", "string", "`containerd`, `cri-o`, `docker` or `podman`.", DEV
)
CONTAINER_IMAGE_NAME = conventional(
    "container.image.name", "string", "Image without tag and digest.", STABLE
)
CONTAINER_IMAGE_TAG = conventional(
    "container.image.tag", "string", "The image's tag; `latest` if it has none.", DEV
)
CONTAINER_IMAGE_TAGS = conventional(
    "container.image.tags", "string[]", "The same as the newer conventions have it.", STABLE
)
CONTAINER_IMAGE_REPO_DIGESTS = conventional(
    "container.image.repo_digests", "string[]", "The image as the runtime resolved it.", STABLE
)

K8S_CLUSTER_UID = conventional(
    "k8s.cluster.uid", "string", "UID of the namespace `kube-system`.", STABLE
)
K8S_NAMESPACE_NAME = conventional("k8s.namespace.name", "string", "The pod's namespace.", STABLE)
K8S_NODE_NAME = conventional("k8s.node.name", "string", "The pod's node.", STABLE)
K8S_NODE_UID = conventional("k8s.node.uid", "string", "The node's UID.", STABLE)
K8S_POD_NAME = conventional("k8s.pod.name", "string", "The pod's name.", STABLE)
K8S_POD_UID = conventional(
    "k8s.pod.uid",
    "string",
    "The pod's UID. Of a static pod that is not matched: the hash of its manifest.",
    STABLE,
)
K8S_POD_HOSTNAME = conventional("k8s.pod.hostname", "string", "If one is specified.", STABLE)
K8S_POD_IP = conventional("k8s.pod.ip", "string", "The pod's first address.", STABLE)
K8S_POD_START_TIME = conventional(
    "k8s.pod.start_time", "string", "When the pod was created, RFC 3339.", STABLE
)
K8S_CONTAINER_NAME = conventional(
    "k8s.container.name", "string", "The container's name in its pod.", STABLE
)
K8S_REPLICASET_NAME = conventional("k8s.replicaset.name", "string", "Owner.", STABLE)
K8S_REPLICASET_UID = conventional("k8s.replicaset.uid", "string", "Owner.", STABLE)
K8S_DEPLOYMENT_NAME = conventional(
    "k8s.deployment.name", "string", "The ReplicaSet's owner.", STABLE
)
K8S_DEPLOYMENT_UID = conventional("k8s.deployment.uid", "string", "The ReplicaSet's owner.", STABLE)
K8S_STATEFULSET_NAME = conventional("k8s.statefulset.name", "string", "Owner.", STABLE)
K8S_STATEFULSET_UID = conventional("k8s.statefulset.uid", "string", "Owner.", STABLE)
K8S_DAEMONSET_NAME = conventional("k8s.daemonset.name", "string", "Owner.", STABLE)
K8S_DAEMONSET_UID = conventional("k8s.daemonset.uid", "string", "Owner.", STABLE)
K8S_JOB_NAME = conventional("k8s.job.name", "string", "Owner.", STABLE)
K8S_JOB_UID = conventional("k8s.job.uid", "string", "Owner.", STABLE)
K8S_CRONJOB_NAME = conventional("k8s.cronjob.name", "string", "The Job's owner.", STABLE)
K8S_CRONJOB_UID = conventional("k8s.cronjob.uid", "string", "The Job's owner.", STABLE)

SERVICE_NAMESPACE = conventional(
    "service.namespace", "string", "By the rules for Kubernetes.", STABLE
)
SERVICE_NAME = conventional(
    "service.name",
    "string",
    "By the rules for Kubernetes; of a kill, if the pod gives none, the victim's own.",
    STABLE,
)
SERVICE_VERSION = conventional("service.version", "string", "By the rules for Kubernetes.", STABLE)
SERVICE_INSTANCE_ID = conventional(
    "service.instance.id", "string", "By the rules for Kubernetes.", STABLE
)

_resource_end = len(ATTRIBUTES)

K8S_CONTAINER_RESTART_COUNT = conventional(
    "k8s.container.restart_count",
    "int",
    "On the kill: how often the container had been restarted when this instance ran.",
    DEV,
)
K8S_LAST_TERMINATED_REASON = conventional(
    "k8s.container.status.last_terminated_reason",
    "string",
    "On the kill: how the container's last instance ended, if the source knows of one.",
    DEV,
)
K8S_POD_QOS_CLASS = own(
    "k8s.pod.qos_class", "string", "On the kill: `Guaranteed`, `Burstable` or `BestEffort`."
)
K8S_POD_PRIORITY_CLASS = own(
    "k8s.pod.priority_class", "string", "On the kill: the pod's `priorityClassName`."
)
CONTAINER_MEMORY_REQUEST = size(
    "oom.container.memory.request", "Memory that the container's specification requests."
)
CONTAINER_MEMORY_LIMIT = size(
    "oom.container.memory.limit", "Limit of memory in the container's specification."
)
CONTAINER_CPU_REQUEST = own(
    "oom.container.cpu.request", "double", "CPU that its specification requests.", "{cpu}"
)
CONTAINER_CPU_LIMIT = own(
    "oom.container.cpu.limit", "double", "Limit of CPU in its specification.", "{cpu}"
)
LIMIT_LEVEL = own(
    "oom.limit.level",
    "string",
    "Whose limit was hit: the `container`'s, its `pod`'s, its `qos_class`'s, that of all pods "
    "(`kubepods`) or `other`.",
)
LIMIT_VERSUS_SPEC = own(
    "oom.limit.versus_spec",
    "string",
    "That limit beside the specification's of the container or pod, whole pages: `equal`, `above`, "
    "`below` or `unspecified`, if there is none.",
)

KUBERNETES_RESOURCE_ATTRIBUTES = tuple(ATTRIBUTES)[_before:_resource_end]
"""What a resource has that was matched."""

KUBERNETES_KILL_ATTRIBUTES = tuple(ATTRIBUTES)[_resource_end:]
"""What the record and the span of a kill have beside it."""
