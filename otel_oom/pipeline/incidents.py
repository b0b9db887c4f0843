"""What befell a cgroup, and when: so that a span of one receiver can link to another's.

Receivers do not know each other. Who sees something that concerns all of a cgroup, as an OOM
kill does, notes it here; who has a span of that time asks. Nothing is waited for: what is noted
after it was asked for is not found.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

_MOST_INCIDENTS = 256
_MOST_PATHS_KEPT = 1024


class Incident(NamedTuple):
    """A span that concerns a cgroup and all below it; times are Unix nanoseconds."""

    cgroup: str
    """Path from the root of its hierarchy; `/` concerns all."""

    start_ns: int
    end_ns: int
    trace_id: bytes
    span_id: bytes
    what: str
    """The span's name, as `oom.kill`."""


class Incidents:
    """The last incidents of the host."""

    def __init__(self, most: int = _MOST_INCIDENTS) -> None:
        self._most = most
        self._cgroups: dict[bytes, str] = {}  # by span, the one that was noted first comes first
        self._by_cgroup: dict[str, dict[bytes, Incident]] = {}
        self._ends_ns: dict[str, int] = {}  # the latest of a cgroup, made when it is asked for

    def note(self, incident: Incident) -> None:
        """Keep it, in the place of what was noted of the same span; the oldest makes room."""
        cgroup, span_id = incident.cgroup, incident.span_id
        if self._cgroups.get(span_id) != cgroup:
            self._remove(span_id)
            if len(self._cgroups) >= self._most:
                self._remove(next(iter(self._cgroups)))
            self._cgroups[span_id] = cgroup
        self._by_cgroup.setdefault(cgroup, {})[span_id] = incident
        self._ends_ns.pop(cgroup, None)

    def overlapping(self, cgroup: str, start_ns: int, end_ns: int) -> Sequence[Incident]:
        """Those that concern this cgroup, at any moment of a time in Unix nanoseconds."""
        if not self._by_cgroup:
            return ()
        return [
            incident
            for path in _with_those_above(cgroup)
            if path in self._by_cgroup and start_ns <= self._end_ns(path)
            for incident in self._by_cgroup[path].values()
            if incident.start_ns <= end_ns and start_ns <= incident.end_ns
        ]

    def _end_ns(self, cgroup: str) -> int:
        """When the last of them ended: most who ask come later, and need not look at each."""
        if cgroup not in self._ends_ns:
            found = self._by_cgroup[cgroup].values()
            self._ends_ns[cgroup] = max(incident.end_ns for incident in found)
        return self._ends_ns[cgroup]

    def _remove(self, span_id: bytes) -> None:
        cgroup = self._cgroups.pop(span_id, None)
        if cgroup is not None:
            del self._by_cgroup[cgroup][span_id]
            self._ends_ns.pop(cgroup, None)
            if not self._by_cgroup[cgroup]:
                del self._by_cgroup[cgroup]


@functools.lru_cache(_MOST_PATHS_KEPT)
def _with_those_above(cgroup: str) -> tuple[str, ...]:
    """The path and those of all cgroups above it, up to the root."""
    names = cgroup.strip("/").split("/")
    return "/", *("/" + "/".join(names[:count]) for count in range(1, len(names) + 1) if names[0])
