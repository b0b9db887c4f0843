"""The identities that hold between the kernel's counters, our program's and what was reported.

With D = distinct victims reported, B = distinct marks counted in the kernel by our program,
F = marks without a kill, U = marks of which nothing told, V = the movement of `oom_kill` in
/proc/vmstat and G = group kills (whose first victim the kernel counts once or twice,
mm/oom_kill.c):

    D + lost in the ring = B                    our own way, exact
    B - F - U <= V <= B - F + G                 against the kernel

V above its bound: the kernel killed without our seeing it. V below: a bug of ours.
"""

from __future__ import annotations

import dataclasses

from otel_oom.bpf.events import OomCounters
from otel_oom.receivers.oom.kills import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """The terms at one moment, all counted since the start.

    `maybe_groups`: marks that got lost or are on their way, of which each may be the first of a
    group kill.
    `unrecorded`: kills whose mark was counted, and which came to us neither as a record nor
    can come any more.
    """

    reported: int
    marks: int
    repeats: int
    already_dying: int
    unknown: int
    lost: int
    group_kills: int
    maybe_groups: int
    unrecorded: int
    kernel_kills: int

    @classmethod
    def of(
        cls,
        counters: OomCounters,
        tally: Tally,
        kernel_kills: int,
        *,
        has_groups: bool,
        is_quiet: bool,
    ) -> Sums:
        """The terms of our program's counters, of what came of them, and of the kernel's kills.

        `has_groups`: whether this host can kill a whole cgroup; `is_quiet`: whether no record is
        on its way.
        """
        kills = counters.marks - counters.repeats - counters.already_dying
        unrecorded = kills - (tally.distinct - tally.already_dying)
        if not is_quiet or counters.untracked:  # some are on their way, or told of twice
            dying = counters.already_dying - tally.already_dying
            unrecorded = min(unrecorded, counters.lost_marks - dying)
        untold = max(0, counters.marks - counters.repeats - tally.distinct)
        return cls(
            reported=tally.distinct,
            marks=counters.marks,
            repeats=counters.repeats,
            already_dying=counters.already_dying,
            unknown=counters.unknown,
            lost=counters.lost_marks + tally.bad_marks,
            group_kills=tally.groups,
            maybe_groups=untold if has_groups else 0,
            unrecorded=max(0, unrecorded),
            kernel_kills=kernel_kills,
        )

    @property
    def own_difference(self) -> int:
        """D + lost - B; 0 once the ring is drained."""
        return self.reported + self.lost - (self.marks - self.repeats)

    @property
    def kills(self) -> int:
        """B - F."""
        return self.marks - self.repeats - self.already_dying

    @property
    def least_kills(self) -> int:
        """B - F - U."""
        return self.kills - self.unknown

    @property
    def most_kills(self) -> int:
        """B - F + G."""
        return self.kills + self.group_kills + self.maybe_groups

    @property
    def not_seen(self) -> int:
        """Kills that the kernel counted beyond what our marks explain."""
        return max(0, self.kernel_kills - self.most_kills)

    def line(self) -> str:
        """The identities, for a person."""
        return (
            f"victims {self.reported} + lost in the ring {self.lost} = marks {self.marks} "
            f"- repeated {self.repeats}; kernel's kills {self.kernel_kills} in "
            f"[{self.least_kills}, {self.most_kills}] "
            f"(already dying {self.already_dying}, group kills {self.group_kills})"
        )
