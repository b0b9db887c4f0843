"""What a kill's record says beside its resource: what was asked for, and what the kernel enforced.

Only records and spans of `oom.kill` are touched. The specification's limit and the kernel's are
compared where they can be: the kernel's is of whole pages.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from otel_oom import semconv
from otel_oom.kubernetes import paths
from otel_oom.kubernetes.objects import Pod
from otel_oom.pipeline import environment, otlp
from otel_oom.pipeline.data import MESSAGES, Signal
from otel_oom.pipeline.otlp import wire_values
from otel_oom.processors.k8s_attributes import quantity
from otel_oom.processors.k8s_attributes.association import Found, Identity
from otel_oom.processors.k8s_attributes.chunks import Chunk, write
from otel_oom.processors.k8s_attributes.pods import spec_of, status_of
from otel_oom.semconv import LimitLevel, VersusSpec

_NAME = semconv.EVENT_OOM_KILL.encode()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LISTS = {
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records", "event_name", 6),
    Signal.TRACES: ("resource_spans", "scope_spans", "spans", "name", 9),
}
"""Names of the nested lists, of what names a kill, and the number of the field of attributes."""

_TOLD = frozenset(
    {
        semconv.LIMIT_CGROUP,
        semconv.LIMIT_BYTES,
        semconv.PROCESS_OTEL_SERVICE_NAME,
        semconv.PROCESS_OTEL_RESOURCE_ATTRIBUTES,
        *semconv.KUBERNETES_KILL_ATTRIBUTES,
    }
)
"""What is looked for among a kill's attributes, in one pass over them."""

_KUBEPODS = "kubepods"
_MOST_KEPT = 1024

Values = dict[str, otlp.Value]


def may_be_in(signal: Signal, chunk: Chunk) -> bool:
    """Whether it is worth to look for kills: their name is in its bytes."""
    return signal in _LISTS and _NAME in chunk.below


def described(signal: Signal, chunk: Chunk, identity: Identity, found: Found) -> Chunk:
    """The chunk with what is known of its kills; without one it stays as it is."""
    resources, scopes, records, name, field = _LISTS[signal]
    message = MESSAGES[signal].FromString(write(chunk))
    (holder,) = getattr(message, resources)
    kills = [
        record
        for scope in getattr(holder, scopes)
        for record in getattr(scope, records)
        if getattr(record, name) == semconv.EVENT_OOM_KILL
    ]
    if not kills:
        return chunk
    own = _own(identity, found)
    services = set()
    for kill in kills:
        told = otlp.attributes(each for each in kill.attributes if each.key in _TOLD)
        added = own | _limit(told, identity, found)
        kill.MergeFromString(_encoded(field, added, told))
        services.add(_service(told))
    _name_service(holder.resource, services)
    resource = holder.resource.SerializeToString()
    holder.ClearField("resource")
    return Chunk(resource, holder.SerializeToString())


def _encoded(field: int, added: Values, told: Mapping[str, otlp.Value]) -> bytes:
    """Attributes as fields of a record; what it says itself stays."""
    table = _attributes(field)
    return b"".join(table[key][value] for key, value in added.items() if key not in told)


@functools.cache
def _attributes(field: int) -> dict[str, wire_values.Attribute]:
    keys = semconv.KUBERNETES_KILL_ATTRIBUTES
    return wire_values.attributes(field, {key: semconv.ATTRIBUTES[key].type for key in keys})


def _own(identity: Identity, found: Found) -> Values:
    """What is the same for all kills of a container."""
    values: Values = {semconv.K8S_POD_QOS_CLASS: identity.workload.qos_class or None}
    if found.entry:
        pod = found.entry.pod
        values[semconv.K8S_POD_QOS_CLASS] = pod.status.qos_class or identity.workload.qos_class
        values[semconv.K8S_POD_PRIORITY_CLASS] = pod.spec.priority_class_name
        if instance := found.entry.instances.get(identity.container_id):
            values[semconv.K8S_CONTAINER_RESTART_COUNT] = instance.restart_count
        values |= _resources(pod, found.container)
        values[semconv.K8S_LAST_TERMINATED_REASON] = _last_reason(pod, found.container)
    return {key: value for key, value in values.items() if value not in ("", None)}


def _resources(pod: Pod, container: str) -> Values:
    spec = spec_of(pod, container)
    resources = spec.resources if spec else None
    requests = (resources and resources.requests) or {}
    limits = (resources and resources.limits) or {}
    return {
        semconv.CONTAINER_MEMORY_REQUEST: quantity.whole(requests.get("memory")),
        semconv.CONTAINER_MEMORY_LIMIT: quantity.whole(limits.get("memory")),
        semconv.CONTAINER_CPU_REQUEST: quantity.number(requests.get("cpu")),
        semconv.CONTAINER_CPU_LIMIT: quantity.number(limits.get("cpu")),
    }


def _last_reason(pod: Pod, container: str) -> str:
    """Of the instance that ended last."""
    status = status_of(pod, container)
    for state in (status.state, status.last_state) if status else ():
        if state and state.terminated:
            return state.terminated.reason
    return ""


def _limit(told: Mapping[str, otlp.Value], identity: Identity, found: Found) -> Values:
    """Whose limit it was, and how it compares with what was asked for."""
    cgroup, limit_bytes = told.get(semconv.LIMIT_CGROUP), told.get(semconv.LIMIT_BYTES)
    if not isinstance(cgroup, str) or not (identity.pod_uid or found.entry):
        return {}
    level = level_of(cgroup)
    values: Values = {semconv.LIMIT_LEVEL: level.value}
    if found.entry and isinstance(limit_bytes, int):
        specified, is_known = _specified(level, found.entry.pod, found.container)
        if is_known:
            values[semconv.LIMIT_VERSUS_SPEC] = versus(limit_bytes, specified).value
    return values


@functools.lru_cache(_MOST_KEPT)
def level_of(cgroup: str) -> LimitLevel:
    """Whose cgroup this is; one below a container's or a pod's is another's."""
    workload, name = paths.parse(cgroup), cgroup.rstrip("/").rpartition("/")[2]
    if workload.container_id:
        own = workload.container_id in name
        return LimitLevel.CONTAINER if own else LimitLevel.OTHER
    if workload.pod_uid:
        own = workload.pod_uid in name.replace("_", "-")
        return LimitLevel.POD if own else LimitLevel.OTHER
    if workload.qos_class:
        return LimitLevel.QOS_CLASS
    return LimitLevel.KUBEPODS if _KUBEPODS in name else LimitLevel.OTHER


def versus(limit_bytes: int, specified_bytes: int | None) -> VersusSpec:
    """The kernel's limit beside the specification's, which it rounds down to whole pages."""
    if specified_bytes is None:
        return VersusSpec.UNSPECIFIED
    whole_pages = specified_bytes // _PAGE_BYTES * _PAGE_BYTES
    if limit_bytes == whole_pages:
        return VersusSpec.EQUAL
    return VersusSpec.ABOVE if limit_bytes > whole_pages else VersusSpec.BELOW


def _specified(level: LimitLevel, pod: Pod, container: str) -> tuple[int | None, bool]:
    """The limit of memory that is specified, and whether that can be told at all.

    A pod's is the sum of its containers'; with init containers or an overhead it is more than
    what is read here tells.
    """
    if level is LimitLevel.CONTAINER and container:
        limit = _resources(pod, container)[semconv.CONTAINER_MEMORY_LIMIT]
        return (limit if isinstance(limit, int) else None), True
    if level is LimitLevel.POD and pod.spec.containers and not pod.spec.init_containers:
        limits = list(_memory_limits(pod))
        return (None if None in limits else sum(filter(None, limits))), True
    return None, False


def _memory_limits(pod: Pod) -> Iterator[int | None]:
    for spec in pod.spec.containers:
        limit = _resources(pod, spec.name)[semconv.CONTAINER_MEMORY_LIMIT]
        yield limit if isinstance(limit, int) else None


def _name_service(resource: Any, services: Collection[str]) -> None:
    """The victims' own name of their service, if they agree and the pod gives none."""
    if any(each.key == semconv.SERVICE_NAME for each in resource.attributes):
        return
    if len(services) == 1 and (name := next(iter(services))):
        resource.attributes.append(otlp.key_value(semconv.SERVICE_NAME, name))


def _service(told: Mapping[str, otlp.Value]) -> str:
    variables = {
        key.removeprefix(semconv.ENVIRONMENT_PREFIX): str(value)
        for key, value in told.items()
        if key.startswith(semconv.ENVIRONMENT_PREFIX)
    }
    named = environment.resource(variables, lambda _: None) if variables else {}
    return named.get(semconv.SERVICE_NAME, "")
