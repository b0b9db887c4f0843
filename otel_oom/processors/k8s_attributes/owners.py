"""Who made a pod, up to the Deployment or the CronJob.

The object in between is asked if the source knows it, else its name is read by the rule by which
Kubernetes made it. A name that does not fit the rule tells nothing.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from otel_oom.kubernetes.objects import OwnerReference, Pod
from otel_oom.kubernetes.source import Kind
from otel_oom.processors.k8s_attributes.index import Index

TEMPLATE_HASH = "pod-template-hash"

KINDS = {
    "ReplicaSet": "replicaset",
    "StatefulSet": "statefulset",
    "DaemonSet": "daemonset",
    "Job": "job",
}
"""Owners of a pod by their kind, as attributes spell it."""

_MOST_NAME_CHARS = 253
_SCHEDULED = re.compile(r"(?P<name>.+)-(?P<minutes>[0-9]{8})")
_MOST_SKEW_MINUTES = 24 * 60


class Owner(NamedTuple):
    """One owner; the UID is empty if only its name is known, by rule."""

    name: str
    uid: str = ""


def of(pod: Pod, index: Index) -> dict[str, Owner]:
    """All owners by kind, as `replicaset`."""
    found: dict[str, Owner] = {}
    for reference in pod.metadata.owner_references or ():
        kind = KINDS.get(reference.kind)
        if kind is None:
            continue
        found[kind] = Owner(reference.name, reference.uid)
        if kind == "replicaset" and (above := _deployment(reference, pod, index)):
            found["deployment"] = above
        if kind == "job" and (above := _cron_job(reference, pod, index)):
            found["cronjob"] = above
    return found


def _deployment(reference: OwnerReference, pod: Pod, index: Index) -> Owner | None:
    if index.other(Kind.REPLICA_SET, reference.uid):
        return _owner(index.owner(Kind.REPLICA_SET, reference.uid, "Deployment"))
    suffix = "-" + (pod.metadata.labels or {}).get(TEMPLATE_HASH, "")
    is_whole = len(reference.name) < _MOST_NAME_CHARS  # else the Deployment's may have been cut
    if len(suffix) > 1 and reference.name.endswith(suffix) and is_whole:
        return Owner(reference.name.removesuffix(suffix))
    return None


def _cron_job(reference: OwnerReference, pod: Pod, index: Index) -> Owner | None:
    """A CronJob's Jobs are named after the minute for which they were scheduled."""
    if index.other(Kind.JOB, reference.uid):
        return _owner(index.owner(Kind.JOB, reference.uid, "CronJob"))
    scheduled = _SCHEDULED.fullmatch(reference.name)
    created_minutes = _minutes(pod.metadata.creation_timestamp)
    if not scheduled or created_minutes is None:
        return None
    skew_minutes = abs(created_minutes - int(scheduled["minutes"]))
    return Owner(scheduled["name"]) if skew_minutes <= _MOST_SKEW_MINUTES else None


def _owner(reference: OwnerReference | None) -> Owner | None:
    return Owner(reference.name, reference.uid) if reference else None


def _minutes(timestamp: str | None) -> int | None:
    """Minutes since the epoch of an RFC 3339 time."""
    try:
        return int(dt.datetime.fromisoformat(timestamp or "").timestamp()) // 60
    except ValueError:
        return None
