"""Puts the kernel's records together: a mark, its delivery, its exit are one kill.

A kill is reported once its victim's exit was seen, or after `settle`; its span ends with the
exit, or with an error after `settle_exit`. Kills of one decision make an episode (`episodes`).
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import operator
from collections.abc import Callable

from otel_oom.bpf.events import OomMarkFlag
from otel_oom.receivers.oom import variables
from otel_oom.receivers.oom.context import Context
from otel_oom.receivers.oom.episodes import Episode, Episodes
from otel_oom.receivers.oom.limit import Limit
from otel_oom.receivers.oom.records import Delivered, Exited, Identity, Mark, Record
from otel_oom.receivers.oom.variables import Variables

PRIMARY, GROUP_MEMBER, ALREADY_DYING = "primary", "group_member", "already_dying"

_MOST_EARLY = 1024
"""Deliveries kept for want of a mark; more than that are of marks that the ring lost."""

_GROUP_QUIET_S = 0.02
"""A group's records wait until no member was marked for so long, to tell how many it was."""

_AT_DELIVERY = OomMarkFlag.AT_DELIVERY.value
_HAS_VICTIM = OomMarkFlag.HAS_VICTIM.value
"""Plain ints: an enum's `&` would take longer than all the rest that is done to a mark."""

_marked = operator.attrgetter("mark.raw.boot_ns")


@dataclasses.dataclass(slots=True)
class Kill:
    """One victim, as far as it is known yet."""

    mark: Mark
    limit: Limit
    context: Context | None
    episode: Episode
    role: str
    marked_s: float
    delivered: Delivered | None = None
    exited: Exited | None = None
    is_reported: bool = False

    @property
    def variables(self) -> Variables:
        """What its environment says of its service."""
        told = self.delivered
        return variables.read(told.raw_variables, told.flags) if told else variables.GONE

    @property
    def is_killed(self) -> bool:
        """Whether the kernel counted a kill; a mark of which that is unknown is taken as one."""
        return self.role != ALREADY_DYING


@dataclasses.dataclass(slots=True)
class Tally:
    """Counts of what came in, for the identities; records, not processes, where not said."""

    distinct: int = 0
    already_dying: int = 0
    groups: int = 0
    bad_marks: int = 0
    exits_without_mark: int = 0


class Assembler:
    """Takes records in the ring's order, gives out kills that are ready.

    `examine` reads a mark's limit and context; `note` is told of a kill at once, as soon as its
    mark is read, and again with its exit. Times are the loop's, in seconds.
    """

    def __init__(
        self,
        examine: Callable[[Mark], tuple[Limit, Context | None]],
        *,
        settle_s: float,
        settle_exit_s: float,
        note: Callable[[Kill], None] | None = None,
    ) -> None:
        self.tally = Tally()
        self._examine = examine
        self._note = note
        self._settle_s = settle_s
        self._settle_exit_s = settle_exit_s
        self._open: dict[Identity, Kill] = {}
        self._changed: dict[Identity, Kill] = {}
        self._timers: list[tuple[float, Identity]] = []
        self._by_pid: dict[int, tuple[Mark, float]] = {}
        self._early: dict[Identity, Delivered] = {}
        self._episodes = Episodes()

    def take(self, record: Record, now_s: float) -> None:
        """Account for one record."""
        if isinstance(record, Mark):
            self._take_mark(record, now_s)
        elif isinstance(record, Delivered):
            self._take_delivered(record)
        else:
            self._take_exited(record)

    def ready(self, now_s: float, *, flush: bool = False) -> tuple[list[Kill], list[Kill]]:
        """Kills to report now, and kills whose span is to be sent now; `flush`: all of them."""
        self._enter_unjoined(now_s, flush=flush)
        due = self._due(now_s, flush=flush)
        reports = [kill for kill in due if not kill.is_reported]
        for kill in reports:
            kill.is_reported = True
        spans = [k for k in due if k.exited or flush or now_s >= k.marked_s + self._settle_exit_s]
        for kill in spans:
            del self._open[kill.mark.identity]
        for kill in due:
            if kill.mark.identity in self._open:
                self._wait(kill)
        return reports, spans

    def next_s(self) -> float | None:
        """When `ready` will have something, if no record comes before; None for never."""
        while self._timers and self._timers[0][1] not in self._open:
            heapq.heappop(self._timers)
        due = [self._due_s(kill) for kill in self._changed.values()]
        due += [due_s for due_s, _ in self._timers[:1]]
        due += [at + self._settle_s for _, at in itertools.islice(self._by_pid.values(), 1)]
        return min(due, default=None)

    def _take_mark(self, mark: Mark, now_s: float) -> None:
        flags = mark.raw.flags
        if not flags & _HAS_VICTIM:
            self._by_pid.pop(mark.raw.pid, None)  # the oldest come first
            self._by_pid[mark.raw.pid] = (mark, now_s)
            return
        if flags & _AT_DELIVERY:
            mark = self._join(mark)
        if mark.identity not in self._open:
            self._enter(mark, now_s)

    def _enter(self, mark: Mark, now_s: float) -> None:
        self.tally.distinct += 1
        limit, context = self._examine(mark)
        episode = self._episodes.of(mark, limit)
        self.tally.groups = self._episodes.groups
        role = self._role(mark, episode)
        episode.last_mark_s = now_s
        delivered = self._early.pop(mark.identity, None)
        kill = Kill(mark, limit, context, episode, role, now_s, delivered)
        self._open[mark.identity] = self._changed[mark.identity] = kill
        if self._note:
            self._note(kill)

    def _enter_unjoined(self, now_s: float, *, flush: bool) -> None:
        """Marks by pid whose victim never took its SIGKILL are reported as they are."""
        while self._by_pid:
            pid, (mark, marked_s) = next(iter(self._by_pid.items()))
            if not flush and now_s < marked_s + self._settle_s:
                break
            del self._by_pid[pid]
            self._enter(mark, marked_s)

    def _join(self, late: Mark) -> Mark:
        """A kernel that marks by pid: its mark has the trigger, the delivery has the victim."""
        marked = next((p for p in (late.raw.pid, late.raw.tgid) if p in self._by_pid), None)
        if marked is None:
            return late
        early, _ = self._by_pid.pop(marked)
        raw = late.raw._replace(
            boot_ns=early.raw.boot_ns,
            trigger=early.raw.trigger,
            trigger_ancestors=early.raw.trigger_ancestors,
            trigger_tid=early.raw.trigger_tid,
            flags=late.raw.flags | early.raw.flags,
            decision=early.raw.decision,
            decision_memcg_id=early.raw.decision_memcg_id,
            decision_total_pages=early.raw.decision_total_pages,
            decision_points=early.raw.decision_points,
            decision_constraint=early.raw.decision_constraint,
            decision_order=early.raw.decision_order,
            decision_gfp=early.raw.decision_gfp,
        )
        return late._replace(
            raw=raw,
            trigger=early.trigger,
            raw_trigger_ancestors=early.raw_trigger_ancestors,
            trigger_path=early.trigger_path,
        )

    def _role(self, mark: Mark, episode: Episode) -> str:
        if mark.was_dying:
            self.tally.already_dying += 1
            return ALREADY_DYING
        episode.kills += 1
        return PRIMARY if episode.kills == 1 else GROUP_MEMBER

    def _take_delivered(self, delivered: Delivered) -> None:
        """It may be in the ring before its mark: the victim runs on another CPU."""
        kill = self._open.get(delivered.identity)
        if kill is not None:
            kill.delivered = delivered
            return
        if len(self._early) >= _MOST_EARLY:
            self._early.pop(next(iter(self._early)))
        self._early[delivered.identity] = delivered

    def _take_exited(self, exited: Exited) -> None:
        kill = self._open.get(exited.identity)
        if kill is None:
            self.tally.exits_without_mark += 1
            return
        kill.exited = exited
        self._changed[exited.identity] = kill
        if self._note:
            self._note(kill)

    def _due(self, now_s: float, *, flush: bool) -> list[Kill]:
        """Kills for which it is time, in the order of their marks.

        Only those are looked at that have changed or that a timer tells of: in a storm, many
        others are open.
        """
        changed, self._changed = self._changed, {}
        if flush:
            changed = self._open
            self._timers.clear()
        while self._timers and self._timers[0][0] <= now_s:
            _, identity = heapq.heappop(self._timers)
            if identity in self._open:
                changed[identity] = self._open[identity]
        due = []
        for kill in changed.values():
            if flush or self._due_s(kill) <= now_s:
                due.append(kill)
            else:
                self._wait(kill)
        return sorted(due, key=_marked)

    def _wait(self, kill: Kill) -> None:
        heapq.heappush(self._timers, (self._due_s(kill), kill.mark.identity))

    def _report_s(self, kill: Kill) -> float:
        latest = kill.marked_s + self._settle_s
        if kill.exited is None:
            return latest
        if kill.episode.is_group:
            return min(latest, kill.episode.last_mark_s + _GROUP_QUIET_S)
        return 0.0

    def _due_s(self, kill: Kill) -> float:
        if not kill.is_reported:
            return self._report_s(kill)
        return 0.0 if kill.exited else kill.marked_s + self._settle_exit_s
