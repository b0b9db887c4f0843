"""JSON of an API server or a kubelet as objects: a page of a list, and an event of a watch.

An object that is not as the API describes it is left out and counted, and the rest of its page
is kept: one that cannot be read must not hide all others.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Generic, TypeVar

import msgspec

from otel_oom import errors
from otel_oom.kubernetes import status
from otel_oom.kubernetes.objects import Partial, Pod
from otel_oom.kubernetes.source import Kind, Object
from otel_oom.kubernetes.trim import Trim

T = TypeVar("T")

_SHOWN_BYTES = 80


class Change(enum.StrEnum):
    """What a watch tells (apimachinery: watch.EventType); an error is raised instead."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: `continue_token` asks for the next one, and is empty on the last."""

    objects: list[Object]
    resource_version: str
    continue_token: str
    undecodable: int


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One change. A bookmark has no object, only the version that the watch has come to."""

    change: Change
    found: Object | None
    resource_version: str


class _ListMeta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """meta/v1 ListMeta."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """Any List; Go writes no items as null. What has none at all is no List."""

    items: list[T] | None
    metadata: _ListMeta = _ListMeta()


class _Event(msgspec.Struct, frozen=True, gc=False):
    """meta/v1 WatchEvent; what `object` is depends on `type`, so it is read after that."""

    type: str
    object: msgspec.Raw


_RAW_LISTS = msgspec.json.Decoder(_List[msgspec.Raw])
_EVENTS = msgspec.json.Decoder(_Event)
_PARTIALS = msgspec.json.Decoder(Partial)


class Decoder:
    """Reads one kind of object: pods in whole, of all others only the metadata."""

    def __init__(self, kind: Kind, trim: Trim) -> None:
        self._trim = trim
        self._objects: msgspec.json.Decoder[Object]
        self._lists: msgspec.json.Decoder[_List[Object]]
        if kind is Kind.POD:
            self._objects, self._lists = _decoders(Pod)
        else:
            self._objects, self._lists = _decoders(Partial)

    def page(self, body: bytes) -> Page:
        """Read a page of a list (a kubelet's has no version), or raise `errors.KubernetesError`."""
        try:
            found, undecodable = self._lists.decode(body), 0
        except (msgspec.ValidationError, UnicodeDecodeError):
            found, undecodable = self._page_without_odd_ones(body)
        except msgspec.DecodeError as failure:
            raise _garbage("a list", body, failure) from failure
        objects = found.items or []
        for one in objects:
            self._trim(one)
        metadata = found.metadata
        return Page(objects, metadata.resource_version, metadata.continue_, undecodable)

    def event(self, line: bytes) -> Event:
        """Read an event of a watch; raise `errors.KubernetesError` for an error or garbage.

        Of an object that is not as described, the event has the version alone.
        """
        try:
            event = _EVENTS.decode(line)
            if event.type == "ERROR":
                raise status.failed(status.read(bytes(event.object)))
            change = Change(event.type)
            found = None if change is Change.BOOKMARK else self._decoded(event.object)
            metadata = (found or _PARTIALS.decode(event.object)).metadata
        except (msgspec.DecodeError, ValueError) as failure:
            raise _garbage("an event", line, failure) from failure
        if not metadata.resource_version:
            raise _garbage("an event", line, ValueError("it has no version"))
        if found is not None:
            self._trim(found)
        return Event(change, found, metadata.resource_version)

    def _page_without_odd_ones(self, body: bytes) -> tuple[_List[Object], int]:
        try:
            raw = _RAW_LISTS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as failure:
            raise _garbage("a list", body, failure) from failure
        found = [self._decoded(one) for one in raw.items or ()]
        kept = [one for one in found if one is not None]
        return _List(kept, raw.metadata), len(found) - len(kept)

    def _decoded(self, raw: msgspec.Raw) -> Object | None:
        try:
            return self._objects.decode(raw)
        except (msgspec.ValidationError, UnicodeDecodeError):
            return None


def _decoders(
    of: type[Object],
) -> tuple[msgspec.json.Decoder[Object], msgspec.json.Decoder[_List[Object]]]:
    lists: type[_List[Object]] = _List[of]  # type: ignore[valid-type]  # a type of this moment
    return msgspec.json.Decoder(of), msgspec.json.Decoder(lists)


def _garbage(expected: str, body: bytes, failure: Exception) -> errors.KubernetesError:
    text = f"this is not {expected} in JSON ({failure}): {body[:_SHOWN_BYTES]!r}"
    return errors.KubernetesError(text, "garbage")
