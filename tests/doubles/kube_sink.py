"""Keeps what a source tells, and holds it to the contract of `kubernetes/source.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from otel_oom.kubernetes.source import Kind, Object


class Kept:
    """A `Sink` with the objects by kind and name."""

    def __init__(self) -> None:
        self.objects: dict[Kind, dict[str, Object]] = {}
        self.replaced: list[Kind] = []
        self.went_back: list[str] = []
        """Objects of which an older version came after a newer one."""

    def versions(self, kind: Kind = Kind.POD) -> dict[str, str]:
        """Names and versions of what there is."""
        return {
            name: found.metadata.resource_version
            for name, found in self.objects.get(kind, {}).items()
        }

    def replace(self, kind: Kind, objects: Collection[Object]) -> None:
        self.replaced.append(kind)
        for found in objects:
            self._compare(kind, found)
        self.objects[kind] = {found.metadata.name: found for found in objects}

    def put(self, kind: Kind, found: Object) -> None:
        self._compare(kind, found)
        self.objects[kind][found.metadata.name] = found

    def remove(self, kind: Kind, found: Object) -> None:
        self.objects[kind].pop(found.metadata.name, None)

    async def until(self, names: Collection[str], kind: Kind = Kind.POD) -> None:
        """Wait until there are these objects, and no others."""
        while set(self.objects.get(kind, {})) != set(names):
            await asyncio.sleep(0.01)

    def _compare(self, kind: Kind, found: Object) -> None:
        before = self.objects.get(kind, {}).get(found.metadata.name)
        if before and int(before.metadata.resource_version or 0) > int(
            found.metadata.resource_version or 0
        ):
            self.went_back.append(found.metadata.name)
