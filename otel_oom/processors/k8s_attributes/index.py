"""Who is who: the objects that a source tells of, found by what records say of themselves.

What is gone is kept for a while, because the last records of a container come when its pod is
already deleted; it never stands in the way of what took its address or its name.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Hashable, Iterable

from otel_oom.kubernetes.objects import OwnerReference, Partial, Pod
from otel_oom.kubernetes.source import Kind, Object
from otel_oom.processors.k8s_attributes.pods import CONFIG_HASH, Entry, Instance

GRACE_S = 120.0
MOST_GONE = 4096
"""Pods and others that are gone and still known: 14 MiB of pods."""

_SYSTEM_NAMESPACE = "kube-system"

Key = Hashable


def uid_key(uid: str) -> Key:
    """A pod's UID as the node knows it."""
    return "uid", uid


def address_key(address: str) -> Key:
    """An address of a pod's own."""
    return "address", address


def name_key(namespace: str, name: str) -> Key:
    """A pod's full name."""
    return "name", namespace, name


class Index:
    """Pods by container id, UID, address and name; the other kinds by UID or name.

    `more_keys` gives further keys of a pod; `changed` is called after every change. Seconds are
    of `now_s`.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        grace_s: float = GRACE_S,
        most_gone: int = MOST_GONE,
        more_keys: Callable[[Entry], Iterable[Key]] = lambda _: (),
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._now_s = now_s
        self._grace_s = grace_s
        self._most_gone = most_gone
        self._more_keys = more_keys
        self._changed = changed
        self._pods: dict[str, Entry] = {}
        self._by_container: dict[str, Entry] = {}
        self._by_key: dict[Key, tuple[Entry, ...]] = {}
        self._others: dict[Kind, dict[str, Partial]] = {kind: {} for kind in Kind}
        self._gone: collections.OrderedDict[tuple[Kind, str], float] = collections.OrderedDict()
        self.epoch = 0
        """Grows with every change of an object that is no pod: what was made before is stale."""
        self.evicted = 0
        """Pods and owners that were forgotten before their time, for want of room."""

    # What a source tells.

    def replace(self, kind: Kind, objects: Collection[Object]) -> None:
        """A complete list: what is not in it is gone."""
        kept = {_identity(kind, each) for each in objects}
        for each in objects:
            self._put(kind, each)
        for identity in [identity for identity in self._known(kind) if identity not in kept]:
            self._end(kind, identity)
        self._expire()
        self._changed()

    def put(self, kind: Kind, found: Object) -> None:
        """One object is new or changed."""
        self._put(kind, found)
        self._expire()
        self._changed()

    def remove(self, kind: Kind, found: Object) -> None:
        """One object is gone."""
        identity = _identity(kind, found)
        if identity in self._known(kind) and (kind, identity) not in self._gone:
            self._put(kind, found)
            self._end(kind, identity)
        self._expire()
        self._changed()

    def learn(self, pod_uid: str, container_id: str, instance: Instance) -> bool:
        """A container that no status has named yet; whether its pod is known."""
        before = self.by_key(uid_key(pod_uid))
        if before is None:
            return False
        entry = Entry(before.pod, before, {container_id: instance})
        entry.gone_s = before.gone_s
        self._replace(entry, before)
        self._changed()
        return True

    # What is asked.

    def by_container(self, container_id: str) -> Entry | None:
        """The pod that has, or had, a container of this id."""
        return self._by_container.get(container_id)

    def by_key(self, key: Key) -> Entry | None:
        """The pod that is meant by this key."""
        found = self._by_key.get(key)
        if not found:
            return None
        return found[0] if len(found) == 1 else max(found, key=lambda entry: entry.rank)

    def other(self, kind: Kind, uid: str) -> Partial | None:
        """The object of this UID; a namespace or a node is asked for by its name."""
        return self._others[kind].get(uid)

    def owner(self, kind: Kind, uid: str, of_kind: str) -> OwnerReference | None:
        """The controller of that kind, of an object that is known."""
        found = self.other(kind, uid)
        references = (found.metadata.owner_references if found else None) or ()
        return next((each for each in references if each.kind == of_kind and each.controller), None)

    @property
    def cluster_uid(self) -> str:
        """The UID of the namespace that every cluster has; empty if it is not known."""
        found = self.other(Kind.NAMESPACE, _SYSTEM_NAMESPACE)
        return found.metadata.uid if found else ""

    @property
    def pods(self) -> int:
        """How many pods are known, those that are gone included."""
        return len(self._pods)

    @property
    def containers(self) -> int:
        """How many ids of containers are known."""
        return len(self._by_container)

    # How it is kept.

    def _known(self, kind: Kind) -> Collection[str]:
        return self._pods if kind is Kind.POD else self._others[kind]

    def _put(self, kind: Kind, found: Object) -> None:
        if isinstance(found, Pod):
            self._put_pod(found)
            return
        identity = _identity(kind, found)
        self._gone.pop((kind, identity), None)
        if self._others[kind].get(identity) != found:
            self._others[kind][identity] = found
            self.epoch += 1

    def _put_pod(self, pod: Pod) -> None:
        before = self._pods.get(pod.metadata.uid)
        self._gone.pop((Kind.POD, pod.metadata.uid), None)
        if before is not None and before.pod == pod and before.gone_s is None:
            return
        self._replace(Entry(pod, before), before)

    def _replace(self, entry: Entry, before: Entry | None) -> None:
        if before is not None:
            self._unlink(before)
        self._pods[entry.uid] = entry
        for container_id in entry.instances:
            self._by_container[container_id] = entry
        entry.keys = tuple(self._keys(entry))
        for key in entry.keys:
            self._by_key[key] = (*self._by_key.get(key, ()), entry)

    def _end(self, kind: Kind, identity: str) -> None:
        """It is gone, and forgotten later; what is gone already stays so."""
        if (kind, identity) in self._gone:
            return
        now_s = self._now_s()
        if kind is Kind.POD:
            self._pods[identity].gone_s = now_s
        self._gone[kind, identity] = now_s + self._grace_s

    def _expire(self) -> None:
        """Forget what has been gone for long enough, and the oldest beyond the bound."""
        now_s = self._now_s()
        while self._gone:
            (kind, identity), due_s = next(iter(self._gone.items()))
            is_due = due_s <= now_s
            if not is_due and len(self._gone) <= self._most_gone:
                return
            self.evicted += not is_due
            del self._gone[kind, identity]
            self._forget(kind, identity)

    def _forget(self, kind: Kind, identity: str) -> None:
        if kind is Kind.POD:
            self._unlink(self._pods.pop(identity))
        else:
            del self._others[kind][identity]
            self.epoch += 1

    def _unlink(self, entry: Entry) -> None:
        for container_id in entry.instances:
            if self._by_container.get(container_id) is entry:
                del self._by_container[container_id]
        for key in entry.keys:
            left = tuple(each for each in self._by_key.get(key, ()) if each is not entry)
            if left:
                self._by_key[key] = left
            else:
                self._by_key.pop(key, None)

    def _keys(self, entry: Entry) -> set[Key]:
        metadata = entry.pod.metadata
        keys: set[Key] = {uid_key(metadata.uid), name_key(metadata.namespace, metadata.name)}
        if config_hash := (metadata.annotations or {}).get(CONFIG_HASH):
            keys.add(uid_key(config_hash))
        keys.update(map(address_key, entry.addresses))
        keys.update(self._more_keys(entry))
        return keys


def _identity(kind: Kind, found: Object) -> str:
    by_name = kind in {Kind.NAMESPACE, Kind.NODE}
    return found.metadata.name if by_name else found.metadata.uid
