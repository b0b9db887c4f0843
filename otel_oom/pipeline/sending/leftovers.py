"""What an exporter has in memory when a reload changes it: the next of its id goes on with it."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterator

from otel_oom.pipeline.sending.request import Request


class Leftovers:
    """Of the whole agent, by the id of the exporter."""

    def __init__(self) -> None:
        self._expected: frozenset[str] = frozenset()
        self._requests: dict[str, list[Request]] = collections.defaultdict(list)

    def expect(self, names: Collection[str]) -> None:
        """Say which exporters stop now and come back; for all others a stop is the end."""
        self._expected = frozenset(names)

    def are_expected(self, name: str) -> bool:
        """Whether the exporter comes back."""
        return name in self._expected

    def put(self, name: str, request: Request, *, is_first: bool) -> None:
        """Keep a request until the exporter has come back; one that was being sent is first."""
        requests = self._requests[name]
        requests.insert(0 if is_first else len(requests), request)

    def take(self, name: str) -> list[Request]:
        """Those of an exporter that has come back, in their order."""
        return self._requests.pop(name, [])

    def all(self) -> Iterator[tuple[str, Request]]:
        """Those of exporters that have not come back."""
        for name, requests in self._requests.items():
            for request in requests:
                yield name, request
