"""Whose fault a FAILURE is: the SDK's exporters do not tell a refusal from an absence.

While nothing gets through, it is the destination's: the request is tried again. A request that
fails time after time while others, tried in between, are taken, is at fault itself.
"""

from __future__ import annotations

import dataclasses

from otel_oom.pipeline.sending.request import Request

TIMES = 5
"""Failures of one request, with a success of another before each, that make it its own fault."""

_REMEMBERED = 256
"""Requests; the oldest is forgotten, and begins anew."""


@dataclasses.dataclass(slots=True)
class _Failed:
    """One request that fails; it is kept here, so that its `id` stays its own."""

    request: Request
    times: int
    taken: int
    """What others had been taken when it last failed."""


class Verdicts:
    """What became of the requests to one exporter."""

    def __init__(self) -> None:
        self._taken = 0
        self._failed: dict[int, _Failed] = {}

    def took(self, request: Request) -> None:
        """Note a success."""
        self._taken += 1
        self._failed.pop(id(request), None)

    def is_at_fault(self, request: Request) -> bool:
        """Note a failure; whether the request itself is the cause."""
        key = id(request)
        failed = self._failed.setdefault(key, _Failed(request, 0, self._taken))
        if failed.taken < self._taken:
            failed.taken = self._taken
            failed.times += 1
        at_fault = failed.times >= TIMES
        if at_fault:
            del self._failed[key]
        elif len(self._failed) > _REMEMBERED:
            del self._failed[next(iter(self._failed))]
        return at_fault
