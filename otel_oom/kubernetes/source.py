"""The contract between what knows the cluster's objects and what keeps them."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Protocol

from otel_oom.kubernetes.objects import Partial, Pod

Object = Pod | Partial


class Kind(enum.StrEnum):
    """Kinds of object, spelled as in the API's paths; only pods are read in whole."""

    POD = "pods"
    NAMESPACE = "namespaces"
    NODE = "nodes"
    REPLICA_SET = "replicasets"
    DEPLOYMENT = "deployments"
    STATEFUL_SET = "statefulsets"
    DAEMON_SET = "daemonsets"
    JOB = "jobs"
    CRON_JOB = "cronjobs"


class Sink(Protocol):
    """Who keeps the objects. All calls come from the event loop's thread."""

    def replace(self, kind: Kind, objects: Collection[Object]) -> None:
        """A complete list: what is not in it is gone."""

    def put(self, kind: Kind, found: Object) -> None:
        """One object is new or changed."""

    def remove(self, kind: Kind, found: Object) -> None:
        """One object is gone; `found` is how it was last."""


class Source(Protocol):
    """Who knows the objects: an API server, or a node's kubelet."""

    async def run(self, sink: Sink) -> None:
        """Tell the sink of all objects and of every change, until it is cancelled.

        Faults are survived, counted and reported; `errors.ComponentError` only for what no waiting
        repairs (no credentials, a file that is not there).
        """

    def is_synced(self) -> bool:
        """Whether a complete list of every kind was told since the start."""

    def describe(self) -> str:
        """Where from, and how it is, on one line; for `doctor` and the component's status."""
