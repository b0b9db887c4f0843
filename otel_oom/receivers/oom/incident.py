"""A kill as an incident: whom the shortage of memory concerned, and how long.

The limit that was hit binds its cgroup and all below it, so all of them were short, not the
victim's alone. If the host was short, that is everyone.
"""

from __future__ import annotations

from otel_oom import semconv
from otel_oom.bpf.events import OomMarkFlag
from otel_oom.pipeline.incidents import Incident
from otel_oom.receivers.oom import limit, records
from otel_oom.receivers.oom.ids import Ids
from otel_oom.receivers.oom.kills import Kill

HOST, EVERYONE = "none", "/"
"""The constraint of a kill that no limit asked for, and whom it concerns."""

_HAS_VICTIM, _PATH_CUT = OomMarkFlag.HAS_VICTIM.value, OomMarkFlag.PATH_CUT.value
_NS_PER_S = 10**9


def of(kill: Kill, ids: Ids, boot_to_unix_ns: int, settle_exit_s: float) -> Incident | None:
    """The incident, until the victim's exit; one that was not seen is at most `settle_exit_s` away.

    None of a kill whose cgroup is not known from the root on.
    """
    cgroup = _cgroup(kill)
    if cgroup is None:
        return None
    trace_id, span_id, _ = ids.of(kill)
    start_ns = kill.mark.raw.boot_ns
    end_ns = kill.exited.boot_ns if kill.exited else start_ns + round(settle_exit_s * _NS_PER_S)
    return Incident(
        cgroup,
        start_ns + boot_to_unix_ns,
        end_ns + boot_to_unix_ns,
        trace_id,
        span_id,
        semconv.SPAN_OOM_KILL,
    )


def _cgroup(kill: Kill) -> str | None:
    """Whose limit it was; if that is not known, the victim's."""
    mark = kill.mark
    if kill.limit.constraint == HOST:
        return EVERYONE
    if not mark.raw.flags & _HAS_VICTIM or mark.raw.flags & _PATH_CUT:
        return None
    return limit.owner_path(mark, kill.limit) or records.path_text(mark.victim_path)
