"""Where the API server has each kind of object, and how a list and a watch are asked for.

Sources: the API reference, and "Kubernetes API Concepts" for what the parameters mean.
"""

from __future__ import annotations

import dataclasses
import urllib.parse

from otel_oom.kubernetes.source import Kind

PAGE_OBJECTS = 100
"""Objects in a page of a list: what is decoded at once."""

GROUPS = {
    Kind.REPLICA_SET: "apps",
    Kind.DEPLOYMENT: "apps",
    Kind.STATEFUL_SET: "apps",
    Kind.DAEMON_SET: "apps",
    Kind.JOB: "batch",
    Kind.CRON_JOB: "batch",
}
"""API groups, all of version v1; what is not here is in the core."""

_CLUSTER_WIDE = {Kind.NAMESPACE, Kind.NODE}
_OF_A_NODE = "spec.nodeName="


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind; empty is all. Selectors are written as in the API."""

    namespace: str = ""
    fields: str = ""
    labels: str = ""

    def is_of_a_node(self) -> bool:
        """Whether it is one node's pods: few of very many."""
        return self.fields.startswith(_OF_A_NODE) or f",{_OF_A_NODE}" in self.fields


def list_target(kind: Kind, which: Selection, *, from_cache: bool, token: str) -> str:
    """Path and query of a list's page; `token` continues the page before.

    Without a version a list is the newest there is. Version 0 is what the server has in memory:
    else each agent that asks for the pods of its node makes etcd read all pods of the cluster.
    """
    version = {"continue": token} if token else {"resourceVersion": "0"} if from_cache else {}
    return _target(kind, which, limit=str(PAGE_OBJECTS), **version)


def watch_target(kind: Kind, which: Selection, *, version: str, timeout_s: int) -> str:
    """Path and query of a watch of what comes after `version`."""
    return _target(
        kind,
        which,
        watch="1",
        resourceVersion=version,
        allowWatchBookmarks="true",
        timeoutSeconds=str(timeout_s),
    )


def accepts(kind: Kind, *, lists: bool) -> str:
    """The media type: pods whole, of the others what PartialObjectMetadata has."""
    if kind is Kind.POD:
        return "application/json"
    what = "PartialObjectMetadataList" if lists else "PartialObjectMetadata"
    return f"application/json;as={what};g=meta.k8s.io;v=v1"


def _target(kind: Kind, which: Selection, **query: str) -> str:
    base = f"/apis/{GROUPS[kind]}/v1" if kind in GROUPS else "/api/v1"
    if which.namespace and kind not in _CLUSTER_WIDE:
        base += f"/namespaces/{urllib.parse.quote(which.namespace, safe='')}"
    selectors = {"fieldSelector": which.fields, "labelSelector": which.labels}
    asked = query | {key: text for key, text in selectors.items() if text}
    return f"{base}/{kind}?{urllib.parse.urlencode(asked)}"
