"""What a kill's record says beside its resource: what was asked for, and what the kernel enforced.

Only records and spans of `oom.kill` are touched. The specification's limit and the kernel's are
compared where they can be: the kernel's is of whole pages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_oom import semconv
from otel_oom.kubernetes import paths
from otel_oom.kubernetes.objects import Pod
from otel_oom.pipeline import environment, otlp
from otel_oom.pipeline.data import MESSAGES, Signal
from otel_oom.processors.k8s_attributes import quantity
from otel_oom.processors.k8s_attributes.association import Found, Identity
from otel_oom.processors.k8s_attributes.chunks import Chunk, write
from otel_oom.processors.k8s_attributes.pods import spec_of, status_of
from otel_oom.semconv import LimitLevel, VersusSpec

_NAME = semconv.EVENT_OOM_KILL.encode()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LISTS = {
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records", "event_name"),
    Signal.TRACES: ("resource_spans", "scope_spans", "spans", "name"),
}
_KUBEPODS = "kubepods"

Values = dict[str, otlp.Value]


def may_be_in(signal: Signal, chunk: Chunk) -> bool:
    """Whether it is worth to look for kills: their name is in its bytes."""
    return signal in _LISTS and _NAME in chunk.below


def described(signal: Signal, chunk: Chunk, identity: Identity, found: Found) -> Chunk:
    """The chunk with what is known of its kills; without one it stays as it is."""
    resources, scopes, records, name = _LISTS[signal]
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
    own = otlp.key_values(_own(identity, found))
    for kill in kills:
        told = _told(kill.attributes)
        _add(kill.attributes, own)
        _add(kill.attributes, otlp.key_values(_limit(told, identity, found)))
    _name_service(holder.resource, kills)
    resource = holder.resource.SerializeToString()
    holder.ClearField("resource")
    return Chunk(resource, holder.SerializeToString())


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


def _told(attributes: Iterable[KeyValue]) -> Values:
    wanted = (semconv.LIMIT_CGROUP, semconv.LIMIT_BYTES)
    return otlp.attributes(each for each in attributes if each.key in wanted)


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


def _add(attributes: Any, pairs: Iterable[KeyValue]) -> None:
    """What a record says itself stays."""
    present = {each.key for each in attributes}
    attributes.extend(pair for pair in pairs if pair.key not in present)


def _name_service(resource: Any, kills: Iterable[Any]) -> None:
    """The victims' own name of their service, if they agree and the pod gives none."""
    if any(each.key == semconv.SERVICE_NAME for each in resource.attributes):
        return
    names = {_service(kill.attributes) for kill in kills}
    if len(names) == 1 and (name := names.pop()):
        resource.attributes.append(otlp.key_value(semconv.SERVICE_NAME, name))


def _service(attributes: Iterable[KeyValue]) -> str:
    variables = {
        each.key.removeprefix(semconv.ENVIRONMENT_PREFIX): each.value.string_value
        for each in attributes
        if each.key.startswith(semconv.ENVIRONMENT_PREFIX)
    }
    return environment.resource(variables, lambda _: None).get(semconv.SERVICE_NAME, "")
