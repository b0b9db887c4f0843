"""Puts what is known of a pod on a resource, in the wire form: the records below stay unread."""

from __future__ import annotations

from typing import NamedTuple

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_oom import semconv
from otel_oom.kubernetes import log_links
from otel_oom.processors.k8s_attributes import extraction as extractions
from otel_oom.processors.k8s_attributes.association import (
    Associator,
    Found,
    Identity,
    container_of,
)
from otel_oom.processors.k8s_attributes.extraction import Extraction
from otel_oom.processors.k8s_attributes.index import Index, uid_key
from otel_oom.processors.k8s_attributes.pods import Encoded, Entry, Instance
from otel_oom.semconv import Match, Miss

_MOST_KEPT = 4096
_WAITS = frozenset({Miss.NOT_SYNCED, Miss.POD_UNKNOWN, Miss.CONTAINER_UNKNOWN})


class Enriched(NamedTuple):
    """A resource with what is known. `waits`: more may become known in a moment."""

    raw: bytes
    identity: Identity
    found: Found
    waits: bool


class _Known(NamedTuple):
    """A resource as it was enriched, and what that was made of."""

    identity: Identity
    entry: Entry | None
    state: tuple[int, bool]
    enriched: Enriched


class Enricher:
    """Resources with their attributes, each made once while nothing changes.

    `index` is None if nobody is asked; `is_synced` is set once its first lists are complete.
    """

    def __init__(
        self,
        associator: Associator,
        extraction: Extraction | None,
        index: Index | None,
        log_links_folder: str = "",
    ) -> None:
        self._associator = associator
        self._log_links_folder = log_links_folder
        self._extraction = extraction
        self._index = index
        self._kept: dict[bytes, _Known] = {}
        self.is_synced = False

    def enrich(self, raw: bytes) -> Enriched:
        """The `Resource` in its wire form with what is known now."""
        known = self._kept.get(raw)
        identity = known.identity if known else self._associator.identify(raw)
        index = self._index
        learned = self._learn(identity, index) if index else False
        pod = self._associator.find(identity, index) if index else None
        entry = pod[1] if pod else None
        state = (index.epoch if index else 0, self.is_synced)
        if known and not learned and known.entry is entry and known.state == state:
            return known.enriched
        enriched = self._made(identity, self._found(identity, pod))
        self._keep(raw, _Known(identity, entry, state, enriched))
        return enriched

    def with_miss(self, enriched: Enriched, miss: Miss) -> Enriched:
        """The same for another reason: what could have become known did not."""
        return self._made(enriched.identity, enriched.found._replace(miss=miss))

    def _learn(self, identity: Identity, index: Index) -> bool:
        """Whether the node tells now which container of a known pod this is."""
        container_id, uid = identity.container_id, identity.pod_uid
        if not (container_id and uid and self._log_links_folder):
            return False
        if index.by_container(container_id) or not index.by_key(uid_key(uid)):
            return False
        link = log_links.find(container_id, self._log_links_folder)
        if link is None or link.pod_uid != uid:
            return False
        return index.learn(uid, container_id, Instance(link.container, link.restart_count))

    def _keep(self, raw: bytes, known: _Known) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[raw] = known

    def _found(self, identity: Identity, pod: tuple[Match, Entry] | None) -> Found:
        if pod is None:
            told = identity.workload.container_id or identity.workload.pod_uid
            return Found(Match.CGROUP if told else Match.NONE, self._why_none(identity))
        match, entry = pod
        if self._associator.is_excluded(entry):
            return Found(Match.CGROUP if identity.workload.pod_uid else Match.NONE, Miss.EXCLUDED)
        container = container_of(identity, entry)
        is_unknown = bool(identity.container_id) and not container
        return Found(match, Miss.CONTAINER_UNKNOWN if is_unknown else None, entry, container)

    def _why_none(self, identity: Identity) -> Miss:
        if semconv.PROCESS_LINUX_CGROUP in identity.values and not identity.pod_uid:
            return Miss.NOT_IN_A_POD
        if not identity.keys:
            return Miss.NO_IDENTITY
        if self._index is None:
            return Miss.NO_SOURCE
        return Miss.POD_UNKNOWN if self.is_synced else Miss.NOT_SYNCED

    def _made(self, identity: Identity, found: Found) -> Enriched:
        encoded = self._attributes(identity, found)
        raw = identity.raw
        added = {key for key, _ in encoded}
        if not identity.empty.isdisjoint(added):
            raw = _without(raw, identity.empty & added)
        parts = [each for key, each in encoded if key not in identity.present]
        waits = found.miss in _WAITS and self._index is not None
        waits = waits and bool(identity.container_id or identity.pod_uid)
        return Enriched(raw + b"".join(parts), identity, found, waits)

    def _attributes(self, identity: Identity, found: Found) -> Encoded:
        """In order: how it was matched, what the pod gives, what the path gives beside it."""
        entry, path = found.entry, identity.workload
        pod = self._extraction.encoded(entry, found.container) if entry and self._extraction else ()
        told = {
            semconv.K8S_MATCH: found.match.value,
            semconv.K8S_MISS: found.miss.value if found.miss else "",
            semconv.CONTAINER_ID: path.container_id or self._running(found),
            semconv.CONTAINER_RUNTIME_NAME: path.runtime,
            semconv.K8S_POD_UID: path.pod_uid and (entry.uid if entry else path.pod_uid),
        }
        own = extractions.encode({key: value for key, value in told.items() if value})
        keys = {key for key, _ in pod}
        return (*pod, *(each for each in own if each[0] not in keys))

    def _running(self, found: Found) -> str:
        """The container's id where the resource gives no more than its name."""
        if found.entry is None or self._extraction is None or not found.container:
            return ""
        return self._extraction.container_id(found.entry, found.container)


def _without(raw: bytes, keys: frozenset[str]) -> bytes:
    """A resource without its attributes of these keys."""
    resource = Resource.FromString(raw)
    kept = [each for each in resource.attributes if each.key not in keys]
    del resource.attributes[:]
    resource.attributes.extend(kept)
    return resource.SerializeToString()
